"""Tables of facts about the world: one row per line, columns separated by `;`.

Tables hold facts only. Their phrasings, questions and checks are in `world_topics`.
"""

Row = dict[str, str]


def table(columns: str, text: str) -> tuple[Row, ...]:
    """Parse rows: one per line, columns separated by `;`; unknown cells are empty."""
    names = columns.split()
    lines = text.strip().splitlines()
    return tuple(dict(zip(names, map(str.strip, line.split(";")), strict=True)) for line in lines)


COUNTRIES = table(
    "country capital continent language",
    """
    France; Paris; Europe; French
    Germany; Berlin; Europe; German
    Italy; Rome; Europe; Italian
    Spain; Madrid; Europe; Spanish
    Portugal; Lisbon; Europe; Portuguese
    the United Kingdom; London; Europe; English
    Ireland; Dublin; Europe; English
    the Netherlands; Amsterdam; Europe; Dutch
    Belgium; Brussels; Europe; Dutch
    Switzerland; Bern; Europe; German
    Austria; Vienna; Europe; German
    Poland; Warsaw; Europe; Polish
    the Czech Republic; Prague; Europe; Czech
    Slovakia; Bratislava; Europe; Slovak
    Hungary; Budapest; Europe; Hungarian
    Romania; Bucharest; Europe; Romanian
    Bulgaria; Sofia; Europe; Bulgarian
    Greece; Athens; Europe; Greek
    Serbia; Belgrade; Europe; Serbian
    Croatia; Zagreb; Europe; Croatian
    Slovenia; Ljubljana; Europe; Slovene
    Albania; Tirana; Europe; Albanian
    Sweden; Stockholm; Europe; Swedish
    Norway; Oslo; Europe; Norwegian
    Denmark; Copenhagen; Europe; Danish
    Finland; Helsinki; Europe; Finnish
    Iceland; Reykjavik; Europe; Icelandic
    Estonia; Tallinn; Europe; Estonian
    Latvia; Riga; Europe; Latvian
    Lithuania; Vilnius; Europe; Lithuanian
    Ukraine; Kyiv; Europe; Ukrainian
    Russia; Moscow; Europe; Russian
    Turkey; Ankara; Asia; Turkish
    China; Beijing; Asia; Chinese
    Japan; Tokyo; Asia; Japanese
    South Korea; Seoul; Asia; Korean
    India; New Delhi; Asia; Hindi
    Pakistan; Islamabad; Asia; Urdu
    Bangladesh; Dhaka; Asia; Bengali
    Nepal; Kathmandu; Asia; Nepali
    Thailand; Bangkok; Asia; Thai
    Vietnam; Hanoi; Asia; Vietnamese
    Cambodia; Phnom Penh; Asia; Khmer
    Malaysia; Kuala Lumpur; Asia; Malay
    Indonesia; Jakarta; Asia; Indonesian
    the Philippines; Manila; Asia; Filipino
    Mongolia; Ulaanbaatar; Asia; Mongolian
    Kazakhstan; Astana; Asia; Kazakh
    Afghanistan; Kabul; Asia;
    Iran; Tehran; Asia; Persian
    Iraq; Baghdad; Asia; Arabic
    Jordan; Amman; Asia; Arabic
    Lebanon; Beirut; Asia; Arabic
    Saudi Arabia; Riyadh; Asia; Arabic
    Egypt; Cairo; Africa; Arabic
    Morocco; Rabat; Africa; Arabic
    Algeria; Algiers; Africa; Arabic
    Tunisia; Tunis; Africa; Arabic
    Libya; Tripoli; Africa; Arabic
    Sudan; Khartoum; Africa; Arabic
    Ethiopia; Addis Ababa; Africa; Amharic
    Kenya; Nairobi; Africa; Swahili
    Somalia; Mogadishu; Africa; Somali
    Uganda; Kampala; Africa;
    Rwanda; Kigali; Africa;
    Ghana; Accra; Africa; English
    Nigeria; Abuja; Africa; English
    Senegal; Dakar; Africa;
    Angola; Luanda; Africa; Portuguese
    Mozambique; Maputo; Africa; Portuguese
    Zambia; Lusaka; Africa; English
    Zimbabwe; Harare; Africa; English
    Namibia; Windhoek; Africa;
    Madagascar; Antananarivo; Africa; Malagasy
    Canada; Ottawa; North America; English
    the United States; Washington; North America; English
    Mexico; Mexico City; North America; Spanish
    Cuba; Havana; North America; Spanish
    Jamaica; Kingston; North America; English
    Costa Rica; San Jose; North America; Spanish
    Panama; Panama City; North America; Spanish
    Colombia; Bogota; South America; Spanish
    Venezuela; Caracas; South America; Spanish
    Ecuador; Quito; South America; Spanish
    Peru; Lima; South America; Spanish
    Brazil; Brasilia; South America; Portuguese
    Chile; Santiago; South America; Spanish
    Argentina; Buenos Aires; South America; Spanish
    Uruguay; Montevideo; South America; Spanish
    Paraguay; Asuncion; South America; Spanish
    Australia; Canberra; Oceania; English
    New Zealand; Wellington; Oceania; English
    Fiji; Suva; Oceania; English
    """,
)

RIVERS = table(
    "river continent city",
    """
    the Nile; Africa; Cairo
    the Congo; Africa;
    the Niger; Africa;
    the Zambezi; Africa;
    the Amazon; South America;
    the Orinoco; South America;
    the Mississippi; North America; New Orleans
    the Yukon; North America;
    the Yangtze; Asia; Shanghai
    the Ganges; Asia;
    the Mekong; Asia;
    the Indus; Asia;
    the Danube; Europe; Vienna
    the Volga; Europe;
    the Rhine; Europe; Cologne
    the Thames; Europe; London
    the Seine; Europe; Paris
    the Tiber; Europe; Rome
    the Vistula; Europe; Warsaw
    the Spree; Europe; Berlin
    """,
)

LANDMARKS = table(
    "landmark place",
    """
    the Eiffel Tower; Paris
    the Colosseum; Rome
    Big Ben; London
    the Statue of Liberty; New York
    the Brandenburg Gate; Berlin
    the Acropolis; Athens
    the Great Wall; China
    the Taj Mahal; India
    the Great Sphinx; Egypt
    Machu Picchu; Peru
    the Grand Canyon; the United States
    Mount Fuji; Japan
    Mount Kilimanjaro; Tanzania
    """,
)

# The state is the one at room temperature; `use` completes "... is used for".
ELEMENTS = table(
    "element symbol number state use",
    """
    hydrogen; H; 1; gas; filling the tanks of rockets
    helium; He; 2; gas; filling balloons
    lithium; Li; 3; solid; making batteries
    beryllium; Be; 4; solid; making light, stiff parts
    boron; B; 5; solid; making hard glass
    carbon; C; 6; solid; making pencils and diamonds
    nitrogen; N; 7; gas; keeping food fresh
    oxygen; O; 8; gas; helping sick people breathe
    fluorine; F; 9; gas; protecting teeth
    neon; Ne; 10; gas; making bright red signs
    sodium; Na; 11; solid; making table salt
    magnesium; Mg; 12; solid; making light metal parts
    aluminum; Al; 13; solid; making cans and airplanes
    silicon; Si; 14; solid; making computer chips
    phosphorus; P; 15; solid; making matches
    sulfur; S; 16; solid; making rubber strong
    chlorine; Cl; 17; gas; keeping pools clean
    argon; Ar; 18; gas; filling light bulbs
    potassium; K; 19; solid; feeding plants
    calcium; Ca; 20; solid; building strong bones
    titanium; Ti; 22; solid; making strong, light parts
    chromium; Cr; 24; solid; making shiny coatings
    manganese; Mn; 25; solid; making steel hard
    iron; Fe; 26; solid; making steel
    cobalt; Co; 27; solid; making blue glass
    nickel; Ni; 28; solid; making coins
    copper; Cu; 29; solid; making electric wires
    zinc; Zn; 30; solid; keeping steel from rusting
    arsenic; As; 33; solid; making poisons
    bromine; Br; 35; liquid; slowing down fires
    krypton; Kr; 36; gas; filling special lamps
    silver; Ag; 47; solid; making jewelry and mirrors
    tin; Sn; 50; solid; coating steel cans
    iodine; I; 53; solid; cleaning wounds
    xenon; Xe; 54; gas; filling very bright lamps
    barium; Ba; 56; solid; making green fireworks
    tungsten; W; 74; solid; making the wires of old light bulbs
    platinum; Pt; 78; solid; fine jewelry
    gold; Au; 79; solid; making rings and coins
    mercury; Hg; 80; liquid; filling old thermometers
    lead; Pb; 82; solid; making heavy batteries
    radium; Ra; 88; solid; making old watches glow
    uranium; U; 92; solid; running nuclear power plants
    """,
)

# In order from the sun; `fame` completes "NAME is known for ...".
PLANETS = table(
    "planet ordinal kind moons fame",
    """
    Mercury; first; a rocky planet; no moons; being the smallest planet
    Venus; second; a rocky planet; no moons; being the hottest planet
    Earth; third; a rocky planet; one moon; being full of life
    Mars; fourth; a rocky planet; two moons; its red color
    Jupiter; fifth; a gas giant; many moons; being the largest planet
    Saturn; sixth; a gas giant; many moons; its bright rings
    Uranus; seventh; an ice giant; many moons; being tipped on its side
    Neptune; eighth; an ice giant; many moons; being the farthest planet from the sun
    """,
)

# No word stands in two pairs, so that every word has one answer in either direction.
OPPOSITES = table(
    "word opposite",
    """
    hot; cold
    big; small
    tall; short
    up; down
    in; out
    left; right
    day; night
    black; white
    bright; dark
    open; closed
    happy; sad
    fast; slow
    old; young
    hard; soft
    easy; difficult
    full; empty
    wet; dry
    clean; dirty
    loud; quiet
    strong; weak
    rich; poor
    thick; thin
    wide; narrow
    deep; shallow
    heavy; light
    early; late
    near; far
    high; low
    good; bad
    love; hate
    war; peace
    friend; enemy
    true; false
    always; never
    first; last
    begin; end
    push; pull
    win; lose
    buy; sell
    give; take
    remember; forget
    laugh; cry
    awake; asleep
    alive; dead
    brave; cowardly
    cheap; expensive
    sharp; blunt
    smooth; rough
    sweet; bitter
    tight; loose
    safe; dangerous
    polite; rude
    noisy; silent
    north; south
    east; west
    inside; outside
    above; below
    before; after
    more; less
    many; few
    yes; no
    top; bottom
    front; back
    summer; winter
    question; answer
    arrive; leave
    build; destroy
    float; sink
    success; failure
    truth; lie
    beautiful; ugly
    ancient; modern
    """,
)

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# The season is the one in the northern half of the world.
MONTHS = table(
    "month ordinal length season",
    """
    January; first; 31; winter
    February; second; 28; winter
    March; third; 31; spring
    April; fourth; 30; spring
    May; fifth; 31; spring
    June; sixth; 30; summer
    July; seventh; 31; summer
    August; eighth; 31; summer
    September; ninth; 30; autumn
    October; tenth; 31; autumn
    November; eleventh; 30; autumn
    December; twelfth; 31; winter
    """,
)

SEASONS = table(
    "season next previous weather",
    """
    spring; summer; winter; flowers open and birds build their nests
    summer; autumn; spring; the days are long and warm
    autumn; winter; summer; leaves turn red and fall from the trees
    winter; spring; autumn; the days are short and cold
    """,
)
