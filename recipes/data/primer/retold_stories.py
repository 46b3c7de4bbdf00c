"""The stories of two and three steps once more, told of other things and in other orders: phrasings for GRPO alone.

A reward needs an answer and no solution, so they may be what no conversation shows: pages and kilometers for apples,
the number that is needed last told first. They are written as in `one_step_stories`, under
the steps of the story that they tell. None of their sentences is in a held-out phrasing.
"""

from random import Random

from recipes.data.primer.problems import STORIES, Problem, ask

RETOLD = """
a+b x-c
{name} picks {a} {things} before lunch and {b} after lunch, and then sells {c}. How many has {he} still?
A bus has {a} people in it. {b} people get in and {c} get out. How many people are in the bus?
{name} writes {a} pages on {day} and {b} pages on {next_day}, but throws {c} of the pages away. How many pages remain?
{other} brings {name} {b} {things}. {name} had {a} before, and now sells {c}. How many {things} has {name} then?
With {a} dollars of {his} own and {b} from {other}, {name} pays {c} dollars for a book. How many dollars remain?
Take {c} {things} out of a bag that holds {a} old and {b} new ones. How many {things} stay in the bag?

a-b x+c
{name} sells {b} of {his} {a} {things} and then buys {c}. How many {things} has {he} after that?
A bus has {a} people in it. {b} people get out and {c} get in. How many people are in the bus?
There are {a} {things} in a box. {other} takes out {b}, and {name} puts in {c}. How many {things} are in the box?
{name} has {a} dollars, pays {b} dollars for a hat and earns {c} dollars. How many dollars has {he} then?
{c} {things} come on {next_day} to a shop that had {a} and sold {b} on {day}. How many {things} has the shop?
Of {a} birds in a tree, {b} fly away. Then {c} birds come. How many birds are in the tree?

a-b x-c
{name} sells {b} {things} on {day} and {c} on {next_day}. {he} had {a} at first. How many {things} has {he} still?
A bus has {a} people in it. {b} people get out, and then {c} more get out. How many people are in the bus?
A book has {a} pages. {name} reads {b} pages on {day} and {c} on {next_day}. How many pages has {he} still to read?
{name} has {a} dollars. {he} pays {b} dollars for a hat and {c} dollars for a book. How many dollars remain?
In a box there were {a} {things}. {other} took out {b}, then {name} took out {c}. How many {things} stayed in the box?
Of {a} birds in a tree, {b} fly away in the morning and {c} in the evening. How many birds stay?

a+b x+c
{name} reads {a} pages of one book, {b} of another and {c} of a third. How many pages does {he} read?
There are {a} birds in one tree, {b} in another and {c} in a third. How many birds are in the trees?
{name} pays {a} cents for a cup, {b} cents for a spoon and {c} cents for a card. How many cents does {he} pay?
{name} and {other} count {things}: {a} red, {b} blue and {c} green ones. How many do they count?
A bus goes {a} kilometers in the first hour, {b} in the second and {c} in the third. How many kilometers is that?
To school {a} people come by bus, {b} by train and {c} on foot. How many people come?

a*b x+c
{name} buys {a} books for {b} dollars each and a hat for {c} dollars. How many dollars does {he} pay?
A school has {a} rooms with {b} seats in each room, and {c} seats in the garden. How many seats has the school?
{name} reads {b} pages a day for {a} days and {c} pages after that. How many pages does {he} read?
On each of {a} days {name} picks {b} {things}, and {c} on the day after. How many {things} does {he} pick?
{c} {things} lie in the grass and {b} under each of {a} trees. How many {things} are there?
{name} packs {a} bags, {b} {things} in a bag. {c} {things} do not fit in. How many {things} has {name}?

a*b x-c
{name} works {a} days for {b} dollars a day and pays {c} dollars for a book. How many dollars has {he} then?
A school has {a} rooms with {b} seats in each room. {c} seats are free. How many are taken?
On each of {a} days {name} picks {b} {things}. {he} sells {c} of them. How many {things} has {he} still?
{a} buses with {b} people each come to school, and {c} people go home. How many people stay?
{name} buys {a} packs of {b} {things} and hands {c} of them to {other}. How many {things} has {name} then?
There were {b} {things} under each of {a} trees. {name} picks up {c} of them. How many still lie there?

a*b x/c
{a} buses bring {b} people each, who go into {c} rooms, the same number in each. How many people are in a room?
{name} works {a} days for {b} dollars a day. How many books can {he} buy for {c} dollars each?
{name} picks {b} {things} on each of {a} days and puts the same number into each of {c} bags. How many are in a bag?
How many days does a book last if it has {a} parts of {b} pages and {name} reads {c} pages a day?
{c} friends buy {a} packs of {b} {things} together and split them evenly. How many {things} does one friend get?
{name} lays {a} rows of {b} {things}, and then makes {c} equal rows of them. How many {things} are in a row now?

a+b x/c
{name} has {a} dollars and earns {b} dollars. How many books can {he} buy for {c} dollars each?
{a} girls and {b} boys go into {c} rooms, the same number in each. How many children are in a room?
{name} picks {a} {things} on {day} and {b} on {next_day}, and splits them evenly among {c} bags. \
How many are in a bag?
How many days does {name} need to read {a} pages of one book and {b} of another, at {c} pages a day?
{c} friends put together {a} old and {b} new {things} and split them evenly. How many does one of them have?
A hat costs {a} dollars and a book {b} dollars. {c} friends pay the same part of it. How many dollars does each pay?

a/b x-c
{name} puts {a} {things} into {b} bags, the same number in each, and sells {c} from one bag. How many are in it?
{b} rooms hold {a} people, the same number in each. {c} people go out of one room. How many stay in it?
{b} friends split {a} dollars evenly. {name}, who is one of them, pays {c} dollars for a cup. How many has {he} still?
A book of {a} pages has {b} equal parts. {name} has read {c} pages of a part. How many pages of that part remain?
{a} {things} lie in {b} equal rows. {other} takes {c} out of each row. How many {things} remain in a row?
Of {a} people, the same number get in each of {b} buses. Then {c} get out of each. How many people are in a bus?

a/b x+c
{name} puts {a} {things} into {b} bags, the same number in each, and {c} more into one of them. How many are in it?
{b} rooms hold {a} people, the same number in each. {c} people come into one room. How many are in it then?
{b} friends split {a} dollars evenly. {name} takes one part and had {c} dollars before. How many dollars has {he}?
{a} {things} lie in {b} equal rows. {other} adds {c} to each row. How many {things} are in a row?
{a} {things} are in {b} packs, the same number in each. {name} puts {c} more into one of the packs. How many are in it?
Of {a} people, the same number get in each of {b} buses. Then {c} more get in each. How many people are in a bus?

a+b x*c
To school {name} walks {a} kilometers and then goes {b} by bus. How many kilometers is that in {c} days?
In {c} rooms there are {a} girls and {b} boys each. How many children are there?
A hat costs {a} dollars and a book {b} dollars. How many dollars do {c} of each cost?
A shop sells {a} {things} before lunch and {b} after lunch. How many {things} is that in {c} such days?
In each of {c} hours {name} picks {a} {things} and {other} picks {b}. How many {things} do they pick?
For {c} days, {name} writes {a} pages at home and {b} at school a day. How many pages does {he} write?

a-b x*c
{name} picks {a} {things} a day and sells {b} of them. How many {things} has {he} after {c} such days?
In each of {c} rooms there are {a} seats, and {b} of them are taken. How many seats are free?
A book costs {a} dollars, but today {b} dollars less. How many dollars do {c} books cost today?
{c} buses bring {a} people each to school. {b} people get out of every bus. How many people stay in the buses?
{c} trees had {a} birds each. {b} birds fly away from each tree. How many birds stay?
{name} sells {c} {things} for {a} cents each, having paid {b} cents for each. How many cents more has {he} then?

b*c x+a
{name} pays {a} dollars for a hat and buys {b} books for {c} dollars each. How many dollars does {he} pay?
{name} has read {a} pages. {he} reads {c} pages a day for {b} days. How many pages is that in all?
There are {a} seats in the garden and {c} in each of {b} rooms. How many seats are there?
{a} {things} are on the table, and {b} bags with {c} in each are under it. How many {things} are there?
{name} had {a} dollars and then works {b} days for {c} dollars a day. How many dollars has {he} now?
A bus has {a} people in it. At each of {b} stops {c} more get in. How many people are in it then?

b*c a-x
A book has {a} pages. {name} reads {c} pages a day for {b} days. How many pages has {he} still to read?
Out of {a} {things} {name} makes {b} packs of {c}. How many {things} are in no pack?
A bus has {a} people in it. At each of {b} stops {c} get out. How many people stay in the bus?
{name} sells {c} {things} a day for {b} days. {he} had {a} at first. How many {things} has {he} still?
There are {a} {things} in a box. {name} fills {b} bags from it, {c} in each. How many {things} stay in the box?
{name} pays for {b} hats of {c} dollars with {a} dollars. How many dollars does {he} get back?

a-b x/c
A book has {a} pages. {name} has read {b} and reads {c} pages a day now. How many days does {he} still need?
{name} sells {b} of {his} {a} {things} and splits the others evenly among {c} bags. How many are in a bag?
{name} has {a} dollars and pays {b} dollars for a hat. How many books can {he} buy for {c} dollars each?
{a} people come and {b} of them go home. The others split evenly among {c} buses. How many are in a bus?
There were {a} {things}. {other} lost {b}, and {c} friends split those that remained evenly. How many does one get?
{b} of {a} {things} go into a box. {name} lays the others in {c} equal rows. How many {things} are in a row?

a/b x*c
A boat needs {b} hours for {a} kilometers and comes home after {c} hours. How many kilometers was that?
{name} needs {b} days for {a} pages. {other} reads as fast for {c} days. How many pages does {other} read?
{name} wants {c} {things}. A shop sells {b} {things} for {a} cents. How many cents does {name} pay?
{b} buses hold {a} people. How many people do {c} buses hold?
{name} writes for {c} hours. In {b} hours {he} writes {a} pages. How many pages does {he} write?
{name} earns {a} dollars in {b} days. {other} works {c} such days. How many dollars does {other} earn?

a+b x-c y+d
{name} has {a} dollars. {he} earns {b} dollars, pays {c} dollars for a hat and gets {d} from {other}. \
How many dollars has {he} then?
A bus has {a} people in it. {b} people get in, {c} get out and {d} get in. How many people are in the bus?
{name} picks {a} {things} on {day} and {b} on {next_day}, sells {c} and buys {d}. How many {things} has {he} then?
{b} {things} come to a shop that had {a}. It sells {c}, and {d} come back. How many {things} has the shop?
There are {a} birds in a tree. {b} come, {c} fly away, and {d} come back. How many birds are in the tree?

a-b x+c y-d
{name} has {a} dollars. {he} pays {b} dollars for a hat, earns {c} and pays {d} for a book. How many dollars remain?
A bus has {a} people in it. {b} people get out, {c} get in and {d} get out. How many people are in the bus?
A shop has {a} {things}. It sells {b}, gets {c} and then sells {d}. How many {things} has the shop?
There are {a} birds in a tree. {b} fly away, {c} come, and {d} fly away. How many birds stay in the tree?
{name} sells {b} of {his} {a} {things}, buys {c} and hands {d} to {other}. How many {things} has {name} then?

a+b x+c y-d
{name} learns {a} words in one week, {b} in the next and {c} in the third, but forgets {d}. \
How many words does {he} know?
A bus has {a} people in it. {b} people get in, {c} more get in and {d} get out. How many people are in the bus?
{name} counts {a} red, {b} blue and {c} green {things}, and hands {d} of them to {other}. How many does {name} keep?
There are {a} birds in one tree, {b} in another and {c} in a third. {d} birds fly away. How many stay?
On three days {name} earns {a}, {b} and {c} dollars, of which {he} pays {d} for a hat. How many dollars remain?

a*b c*d x+y
{name} buys {a} books for {b} dollars each and {c} hats for {d} dollars each. How many dollars does {he} pay?
A school has {a} rooms with {b} seats and {c} rooms with {d} seats. How many seats has the school?
{name} reads {b} pages a day for {a} days, and then {d} pages a day for {c} days. How many pages does {he} read?
People come to school by {a} buses, {b} in each, and by {c} trains, {d} in each. How many people come?
{a} trees have {b} birds each, and {c} trees have {d} birds each. How many birds are in the trees?

a*b c*d x-y
{name} works {a} days for {b} dollars a day and buys {c} books for {d} dollars each. How many dollars remain?
{name} earns {b} dollars on each of {a} days and pays {d} dollars on each of {c} days. How many dollars remain?
{name} picks {b} {things} on each of {a} days and sells {d} on each of {c} days. How many {things} has {he} still?
{a} buses bring {b} people each to school, and {c} trains take {d} people each home. How many people stay?
{name} buys {a} packs of {b} {things}, and hands {d} to each of {c} friends. How many does {he} keep?

a*b x+c y-d
{name} works {a} days for {b} dollars a day, gets {c} dollars from {other} and pays {d} for a hat. \
How many dollars has {name} then?
{a} buses come with {b} people each. {c} more people get in, and {d} get out. How many people are in the buses?
{name} picks {b} {things} on each of {a} days, finds {c} in the grass and sells {d}. How many {things} has {he} then?
A shop has {a} packs of {b} {things}. It gets {c} {things} and sells {d}. How many {things} has the shop?
{a} trees have {b} birds each. {c} birds come, and {d} birds fly away. How many birds are in the trees?

a*b x-c y+d
{name} works {a} days for {b} dollars a day, pays {c} for a hat and gets {d} dollars from {other}. \
How many dollars has {name} then?
{a} buses come with {b} people each. {c} people get out, and {d} get in. How many people are in the buses?
{name} picks {b} {things} on each of {a} days, sells {c} and buys {d}. How many {things} has {he} then?
A shop has {a} packs of {b} {things}. It sells {c} {things} and gets {d}. How many {things} has the shop?
{a} trees have {b} birds each. {c} birds fly away, and {d} birds come. How many birds are in the trees?

a+b x*c y-d
{name} earns {a} dollars at home and {b} at school a day. After {c} such days {he} pays {d} for a hat. How many remain?
In {c} rooms there are {a} girls and {b} boys each. {d} children go home. How many children stay?
{c} buses have {a} old and {b} new seats each. {d} of the seats are free. How many seats are taken?
Each day {name} picks {a} {things} before lunch and {b} after it. {he} sells {d} after {c} days. How many remain?
{c} trees have {a} big and {b} small birds each. {d} birds fly away. How many birds stay?

a+b x/c y+d
{a} girls and {b} boys go into {c} rooms, the same number in each. {d} more come into one room. How many are in it?
{name} and {other} earn {a} and {b} dollars. {c} friends split them evenly and earn {d} more each. \
How many dollars has each?
{name} puts {a} red and {b} blue {things} into {c} bags, the same number in each, and adds {d} to each. \
How many are in a bag?
{a} old and {b} new {things} lie in {c} equal rows. {other} adds {d} to each row. How many are in a row?

a-b x/c y-d
{b} of {a} people go home. The others split evenly among {c} buses. {d} get out of one bus. How many stay in it?
{name} has {a} dollars and pays {b} for a hat. {c} friends split what remains evenly and pay {d} each for a card. \
How many dollars has each?
{name} sells {b} of {his} {a} {things}, splits the others evenly among {c} bags and takes {d} out of each. \
How many are in a bag?
There were {a} {things}. {b} are lost, the others lie in {c} equal rows, and {d} of each row are red. \
How many in a row are not red?

a*b x/c y+d
{a} buses bring {b} people each, who go into {c} rooms, the same number in each. {d} more come into each. \
How many are in a room?
{c} friends split {a} packs of {b} {things} evenly. {name}, who is one of them, had {d} before. \
How many has {name} now?
{name} lays {a} rows of {b} {things}, makes {c} equal rows of them and adds {d} to each. How many are in a row?
{name} picks {b} {things} on each of {a} days, puts the same number into each of {c} bags, and {d} more into each. \
How many are in a bag?

a/b x*c y+d
{name} buys a cup for {d} cents and {c} {things}, which are sold at {a} cents for {b}. How many cents does {he} pay?
{b} buses hold {a} people. {c} such buses come, and {d} people walk. How many people is that?
{b} rows have {a} seats in all. A room with {c} such rows gets {d} more seats. How many seats has the room?
{name} needs {b} hours for {a} pages. {he} reads for {c} hours in the morning, and {d} pages in the evening. \
How many pages does {he} read?
"""


def read_retold(text: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Phrasings by the steps of their story."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return {tuple(steps.split()): tuple(phrasings) for steps, *phrasings in blocks}


PHRASINGS = read_retold(RETOLD)


def draw_retold(rng: Random, steps: int) -> Problem:
    """A random problem of 2 or 3 steps, told otherwise than its story."""
    story = rng.choice(rng.choice(STORIES[steps]))
    phrasing = rng.choice(PHRASINGS[story.steps])
    return ask(story, phrasing, rng, kind=f"retold {steps}, {' '.join(story.steps)}, {phrasing}")
