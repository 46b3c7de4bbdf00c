"""Tables of everyday facts: animals, objects, words and names. Written as in `world_tables`."""

from recipes.data.primer.world_tables import table


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ANIMALS = table(
    "animal plural sound young kind legs food home",
    """
    dog; dogs; bark; puppy; mammal; four; meat; a kennel
    cat; cats; meow; kitten; mammal; four; fish and mice; a house
    cow; cows; moo; calf; mammal; four; grass; a barn
    horse; horses; neigh; foal; mammal; four; hay; a stable
    sheep; sheep; bleat; lamb; mammal; four; grass; a pasture
    goat; goats; bleat; kid; mammal; four; leaves and grass; the hills
    pig; pigs; oink; piglet; mammal; four; nearly anything; a sty
    lion; lions; roar; cub; mammal; four; meat; the savanna
    bear; bears; growl; cub; mammal; four; berries and fish; a den
    wolf; wolves; howl; pup; mammal; four; meat; the forest
    mouse; mice; squeak; pup; mammal; four; seeds; a hole
    elephant; elephants; trumpet; calf; mammal; four; leaves and bark; the savanna
    rabbit; rabbits; ; kit; mammal; four; grass and clover; a burrow
    deer; deer; ; fawn; mammal; four; leaves; the forest
    kangaroo; kangaroos; ; joey; mammal; two; grass; the plains
    monkey; monkeys; chatter; infant; mammal; ; fruit; the jungle
    whale; whales; sing; calf; mammal; no; tiny sea animals; the ocean
    dolphin; dolphins; click; calf; mammal; no; fish; the ocean
    bat; bats; ; pup; mammal; two; insects; a cave
    duck; ducks; quack; duckling; bird; two; water plants; a pond
    hen; hens; cluck; chick; bird; two; grain; a coop
    goose; geese; honk; gosling; bird; two; grass; a pond
    owl; owls; hoot; owlet; bird; two; mice; a hollow tree
    swan; swans; ; cygnet; bird; two; water plants; a lake
    eagle; eagles; scream; eaglet; bird; two; small animals; a high nest
    penguin; penguins; ; chick; bird; two; fish; the cold south
    crow; crows; caw; chick; bird; two; seeds and insects; a nest
    snake; snakes; hiss; hatchling; reptile; no; small animals; the grass
    turtle; turtles; ; hatchling; reptile; four; plants; the sea
    crocodile; crocodiles; ; hatchling; reptile; four; meat; the river
    lizard; lizards; ; hatchling; reptile; four; insects; the desert
    frog; frogs; croak; tadpole; amphibian; four; flies; a pond
    shark; sharks; ; pup; fish; no; other fish; the ocean
    salmon; salmon; ; fry; fish; no; small water animals; the river
    bee; bees; buzz; larva; insect; six; nectar; a hive
    ant; ants; ; larva; insect; six; seeds and crumbs; an anthill
    butterfly; butterflies; ; caterpillar; insect; six; nectar; the meadow
    spider; spiders; ; spiderling; arachnid; eight; insects; a web
    """,
)

THINGS = table(
    "thing color",
    """
    grass; green
    a ripe lemon; yellow
    fresh snow; white
    coal; black
    blood; red
    a carrot; orange
    the clear sky; blue
    chocolate; brown
    an eggplant; purple
    a flamingo; pink
    a stop sign; red
    a leaf in spring; green
    the yolk of an egg; yellow
    milk; white
    a raven; black
    a pumpkin; orange
    the deep sea; blue
    wet soil; brown
    a violet; purple
    an elephant; gray
    a fire engine; red
    a frog; green
    a sunflower; yellow
    salt; white
    a blueberry; blue
    ash; gray
    """,
)

MIXTURES = table(
    "first second color",
    """
    red; yellow; orange
    blue; yellow; green
    red; blue; purple
    red; white; pink
    black; white; gray
    red; green; brown
    """,
)

SHAPES = table(
    "shape sides",
    """
    triangle; three
    square; four
    pentagon; five
    hexagon; six
    heptagon; seven
    octagon; eight
    """,
)

MEASURES = table(
    "count part whole",
    """
    60; seconds; a minute
    60; minutes; an hour
    24; hours; a day
    7; days; a week
    12; months; a year
    10; years; a decade
    100; years; a century
    1000; years; a millennium
    10; millimeters; a centimeter
    100; centimeters; a meter
    1000; meters; a kilometer
    1000; grams; a kilogram
    1000; milliliters; a liter
    12; inches; a foot
    3; feet; a yard
    100; cents; a dollar
    """,
)

JOBS = table(
    "job task",
    """
    a baker; bakes bread
    a teacher; teaches children
    a doctor; treats sick people
    a farmer; grows food
    a pilot; flies airplanes
    a carpenter; builds things out of wood
    a tailor; makes clothes
    a firefighter; puts out fires
    a dentist; takes care of teeth
    a gardener; looks after plants
    a chef; cooks meals in a restaurant
    a sailor; works on a ship
    a painter; paints pictures
    a vet; treats sick animals
    a librarian; looks after books
    an astronaut; travels into space
    an author; writes books
    a plumber; repairs water pipes
    """,
)

PRODUCTS = table(
    "product source",
    """
    bread; flour
    cheese; milk
    paper; wood
    glass; sand
    wine; grapes
    steel; iron
    chocolate; cocoa beans
    wool; the coats of sheep
    honey; nectar
    silk; the threads of silkworms
    raisins; dried grapes
    bricks; clay
    """,
)

ORGANS = table(
    "organ task",
    """
    the heart; pump blood
    the brain; think
    the eyes; see
    the ears; hear
    the nose; smell
    the tongue; taste
    the lungs; breathe
    the stomach; digest food
    the legs; walk
    the teeth; chew food
    """,
)

PLURALS = table(
    "singular plural",
    """
    child; children
    man; men
    woman; women
    foot; feet
    tooth; teeth
    mouse; mice
    goose; geese
    ox; oxen
    person; people
    leaf; leaves
    knife; knives
    wolf; wolves
    shelf; shelves
    life; lives
    wife; wives
    half; halves
    box; boxes
    bus; buses
    dish; dishes
    watch; watches
    glass; glasses
    city; cities
    baby; babies
    story; stories
    berry; berries
    country; countries
    potato; potatoes
    tomato; tomatoes
    hero; heroes
    book; books
    house; houses
    tree; trees
    river; rivers
    apple; apples
    cat; cats
    table; tables
    key; keys
    toy; toys
    """,
)

# `done` is the form after "have": I have gone.
VERBS = table(
    "verb past done",
    """
    go; went; gone
    see; saw; seen
    eat; ate; eaten
    come; came; come
    run; ran; run
    take; took; taken
    give; gave; given
    write; wrote; written
    speak; spoke; spoken
    break; broke; broken
    drive; drove; driven
    sing; sang; sung
    swim; swam; swum
    begin; began; begun
    drink; drank; drunk
    think; thought; thought
    buy; bought; bought
    bring; brought; brought
    teach; taught; taught
    catch; caught; caught
    find; found; found
    make; made; made
    build; built; built
    sleep; slept; slept
    keep; kept; kept
    leave; left; left
    feel; felt; felt
    tell; told; told
    hold; held; held
    stand; stood; stood
    win; won; won
    fly; flew; flown
    grow; grew; grown
    know; knew; known
    draw; drew; drawn
    fall; fell; fallen
    forget; forgot; forgotten
    choose; chose; chosen
    walk; walked; walked
    play; played; played
    help; helped; helped
    open; opened; opened
    jump; jumped; jumped
    laugh; laughed; laughed
    """,
)

SPELLING_WORDS = _words(
    "apple banana bread butter button candle carrot castle cheese cherry children circle coffee cotton dinner dragon "
    "family finger flower forest friend garden guitar hammer honey kitchen kitten ladder lemon letter little mirror "
    "monkey mother mountain muffin orange paper pencil pepper planet pocket puzzle rabbit river rocket school silver "
    "spoon strawberry summer sunset table teacher tiger tomato tree turtle umbrella village water window winter yellow"
)

NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)

# Each line from small to large, and from slow to fast: any two of a line can be compared.
SIZES = (
    ("an ant", "a mouse", "a cat", "a sheep", "a horse", "an elephant", "a whale"),
    ("a grain of sand", "a pea", "a cherry", "an apple", "a melon", "a car", "a house", "a mountain"),
    ("a drop", "a puddle", "a pond", "a lake", "a sea", "an ocean"),
    ("a house", "a village", "a town", "a city", "a country", "a continent"),
)
SPEEDS = ("a snail", "a turtle", "a walking child", "a running dog", "a car", "an airplane", "a rocket")

# Name, then the words for "he" and "his".
PEOPLE = table(
    "name he his",
    """
    Anna; she; her
    Ben; he; his
    Clara; she; her
    David; he; his
    Emma; she; her
    Felix; he; his
    Grace; she; her
    Henry; he; his
    Ida; she; her
    Jack; he; his
    Kate; she; her
    Leo; he; his
    Maria; she; her
    Noah; he; his
    Olivia; she; her
    Paul; he; his
    Rosa; she; her
    Sam; he; his
    Tina; she; her
    Victor; he; his
    """,
)
