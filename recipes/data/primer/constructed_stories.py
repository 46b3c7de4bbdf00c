"""The stories of two and three steps in eight constructions each, about things that no other telling has.

They go with those of `retold_stories`, and are written in the same way. In each story the first is one question with
its condition, the second tells first what is needed last, the third tells out of order, the fourth is a list, the
fifth in the passive, the sixth about two who act, the seventh about each or a day, and the last asks before it tells.
They were written by someone who had not seen the phrasings that are held out.
"""

CONSTRUCTED = """
a+b x-c
How many people stay on the beach if {a} came by car, {b} came by bus and {c} of them have gone home?
In a hall {c} seats are broken. It has {a} seats upstairs and {b} downstairs. How many of its seats are not broken?
All but {c} of the {a} sheep and {b} goats on a farm are in the barn. How many of these animals are in the barn?
In a drawer lie {a} forks, {b} spoons and nothing else, and {c} of them are dirty. How many are clean?
{a} letters are put into an empty mailbox, {b} more are added at noon, and {c} are taken out in the evening. \
How many letters are left in it?
{name} catches {a} fish, {other} catches {b}, and they throw {c} of them back into the lake. \
How many fish do they take home?
An empty hotel gets {a} guests on {day} and {b} more on {next_day}, when {c} leave. How many guests does it have then?
How many {things} are left in the shop? It had {a} on its shelves and {b} in its cellar, and {c} of them have been \
sold.

a-b x+c
How many eggs has {name} if {he} had {a}, broke {b} of them and got {c} new ones from a farm?
{c} new {things} are on the way to {name}, who had {a} and has lost {b} of them. \
How many will {he} have when they arrive?
{c} cars drive into a parking lot after {b} of the {a} cars there have left. How many cars are in the lot now?
A train carries {a} people, stops, lets {b} of them off, and picks up {c} others. How many people does it carry then?
{b} of the {a} books on a shelf are taken away, and {c} others are put there. How many books are on the shelf now?
{name} had {a} cards and gave {b} of them to {other}, who gave {c} other cards in return. \
How many cards has {name} then?
On {day} {b} of the {a} children in a camp go home, and on {next_day} {c} new children come. \
How many children are in the camp then?
How many dollars has {name} in the evening? {he} had {a} in the morning, spent {b} on food and later earned {c}.

a-b x-c
How many bricks are left when a pile had {a}, and {name} used {b} for a wall and {c} for an oven?
Today {c} children are ill and {b} others are on a trip. The school has {a} children. How many of them are in school?
All but {b} of {a} sheep are in the field, and {c} of those in the field are white. \
How many sheep in the field are not white?
Of {a} flowers in a garden, {b} are red, {c} are yellow, and the rest are blue. How many are blue?
From a shelf with {a} books, {b} are lent out in the morning and {c} are lent out after lunch. \
How many books are still there?
{name} and {other} have a bag of {a} nuts. {name} cracks {b} of them and {other} cracks {c}. \
How many nuts are still whole?
On {day} {b} of the {a} tickets for a concert were sold, and on {next_day} {c} more. \
How many tickets can still be bought?
Find out how many stairs {name} still has to climb in a tower with {a} stairs, if {he} has climbed {b}, rested and \
climbed {c} more.

a+b x+c
How many animals live on a farm if it has {a} cows, {b} sheep and {c} pigs and no others?
{c} more guests will come later. Now {a} guests sit in the house and {b} in the garden. How many guests will there be?
Before {name} wrote the last {c} lines of a poem, {he} had written {a} in the morning and {b} after lunch. \
How many lines does the poem have?
A box holds {a} nails, {b} screws, {c} hooks, and nothing else. How many pieces does it hold?
{a} stones are put on an empty truck, then {b} are added, and in the end {c} more are thrown on. \
How many stones does the truck carry?
{name} has {a} {things}, {other} has {b}, and a friend of theirs has {c}. How many {things} do the three have together?
On {day} {name} runs for {a} minutes in the morning and {b} at night, and on {next_day} for {c} minutes. \
How many minutes does {he} run?
How many points did {name} get in the game? {he} won {a} points at the start, {b} in the middle and {c} at the end.

a*b x+c
How many cents does {name} need if {he} wants {a} stamps at {b} cents each and a card for {c} cents?
{c} chairs stand along the wall. In the middle of the hall are {a} tables, each with {b} chairs around it. \
How many chairs are in the hall?
After filling {a} boxes with {b} eggs each, {name} has {c} eggs left over. How many eggs did {he} have at first?
A truck carries {a} crates of {b} bottles each, {c} single bottles, and nothing else. How many bottles does it carry?
{b} flowers are planted in each of {a} rows, and {c} more are planted at the gate. How many flowers are planted?
{name} bakes {a} trays of {b} rolls, and {other} bakes {c} rolls. How many rolls do they bake together?
For every one of {his} {a} cousins {name} draws {b} pictures, and for {his} teacher {he} draws {c}. \
How many pictures is that?
For how many minutes did {name} make music? {he} played {a} songs of {b} minutes each and then sang for {c} minutes.

a*b x-c
How many pages are still empty when {name} has {a} notebooks of {b} pages each and has filled {c} pages?
{c} of the windows in a street are dark. The street has {a} houses with {b} windows each. \
How many windows are not dark?
All but {c} of the bottles in {a} crates are full. There are {b} bottles in every crate. How many bottles are full?
{name} has {a} sheets, finds {b} stamps on each sheet, and uses {c} of the stamps. How many stamps has {he} left?
{a} boxes with {b} eggs each are taken to the market, and {c} of the eggs are broken on the way. \
How many eggs arrive whole?
{name} plants {a} rows of {b} carrots, and {other} pulls up {c} of the carrots. How many carrots stay in the ground?
Each of {a} children has {b} balloons. The wind takes {c} balloons away. How many balloons do the children still have?
How many cents has {name} left? {he} sold {a} cups of tea at {b} cents each, but had to pay {c} cents for the sugar.

a*b x/c
How many tables are needed if {a} groups of {b} guests come and {c} guests sit at each table?
A ticket costs {c} dollars. {name} has worked {a} hours for {b} dollars an hour. \
How many tickets can {he} pay for with that?
Before they are put into {c} equal piles, the bricks lie in {a} stacks of {b} bricks each. \
How many bricks go into each pile?
{name} opens {a} bags, finds {b} {things} in each bag, and shares them all equally among {c} children. \
How many does a child get?
{a} crates of {b} oranges each are emptied into {c} bowls, as many oranges into one bowl as into another. \
How many are in each bowl?
{name} saves {b} cents a day for {a} days. {other} saves {c} cents a day. \
How many days does {other} need to save as much?
Each of {a} hens has laid {b} eggs, and {c} eggs fit in a carton. How many cartons do the eggs fill?
Find out how many teams there are if {a} schools send {b} players each and all the players are put into teams of {c}.

a+b x/c
How many days does the food last if there are {a} cans in the kitchen and {b} in the cellar and {c} cans are eaten a \
day?
{c} people can sit in a boat. {a} adults and {b} children want to cross a river, all at the same time. \
How many boats do they need?
After {b} more dancers join a group of {a}, all of them form {c} equal lines. How many dancers are in a line?
There are {a} roses, {b} lilies and {c} vases, and all the flowers are split evenly over the vases. \
How many flowers are in a vase?
{b} {things} are added to a pile of {a}, and the whole pile is shared out equally to {c} children. \
How many does a child get?
{name} has {a} photos and {other} has {b}. They put them all into an album, {c} on each page. \
How many pages do they fill?
On {day} {name} bakes {a} rolls and on {next_day} {b}. {he} puts all of them into bags, {c} in each. \
How many bags does {he} fill?
How many shelves does {name} need? {he} owns {a} thick and {b} thin books, and {c} books fit on each shelf.

a/b x-c
How many nuts has {name} left if {he} is one of {b} children who share {a} nuts equally and has eaten {c} of {his} \
nuts?
{c} seats in every row of a hall are taken. The hall has {a} seats in {b} equal rows. \
How many free seats are in each row?
{a} books stand on {b} shelves, as many on one as on another. All but {c} of the books on the top shelf are old. \
How many old books are on that shelf?
{b} sisters get {a} dollars, share them evenly, and spend {c} dollars each on a present. \
How many dollars has each sister then?
{a} bricks are put on {b} carts in equal loads. From the first cart {c} bricks are taken off. \
How many bricks are left on that cart?
{name} deals {a} cards evenly to {b} players. {other} is one of the players and puts down {c} cards. \
How many cards does {other} still hold?
There are equally many sheep in each of {b} fields, {a} sheep in all. Then {c} leave each field. \
How many stay in a field?
How many minutes of the last lesson are left? \
{a} minutes are split into {b} equal lessons, and {c} minutes of the last one have passed.

a/b x+c
How many cents has {name} if {he} is one of {b} children who share {a} cents equally and then finds {c} more?
The blue vase already holds {c} flowers. Then {a} more go in equal parts into {b} vases, the blue one among them. \
How many does the blue one hold now?
After {a} sheep have been split into {b} equal flocks, {c} more sheep join the last flock. \
How many sheep are in that flock?
{b} workers get {a} dollars, split them equally, and are given {c} dollars more each. \
How many dollars does each worker have?
{a} stones are laid in {b} equal heaps, and {c} stones are added to the first heap. \
How many stones does the first heap have?
{name} deals {a} {things} out evenly to {b} friends. {other} is one of them and already held {c}. \
How many does {other} hold now?
There are equally many children in each of {b} classes, {a} in all. Each class gets {c} new children. \
How many are in a class then?
How many kilometers does {name} run on {day}? \
{he} splits {a} kilometers evenly over {b} days, {day} among them, and runs {c} more on {day}.

a+b x*c
How many cents do {c} lunches cost if a lunch is a soup for {a} cents and a roll for {b} cents?
{c} families live in a house. Each family has {a} keys for the door and {b} for the cellar. \
How many keys do the families have?
Before breakfast {name} swims for {a} minutes, and after work for {b}. {he} does so on {c} days. \
How many minutes does {he} swim?
A bunch is made of {a} roses, {b} tulips and nothing else, and {name} sells {c} bunches. How many flowers are in them?
{a} red and {b} white beads are put on every string. How many beads are needed for {c} strings?
A new wall gets {a} bricks an hour from {name} and {b} an hour from {other}. \
How many bricks are in it after both have worked {c} hours?
Each of {c} guests is given {a} plums and {b} cherries. How many pieces of fruit do the guests have?
Find out how many eggs {c} cakes take. A cake needs {a} eggs for the dough and {b} for the cream.

a-b x*c
How many pages are not empty in {c} copies of a book if each copy has {a} pages and {b} of them are empty?
{c} classes plan a trip. Every class has {a} children, but {b} from each class cannot come. How many children can come?
All but {b} of the {a} eggs in each box are white. How many white eggs are in {c} boxes?
{name} bakes {a} loaves a day, keeps {b} of them, and sells the others. How many loaves does {he} sell in {c} days?
{b} of the {a} bottles in every crate are taken out. There are {c} crates. How many bottles are left in the crates?
{name} gets {a} points in every round of a game, and {other} only {b}. \
How many points is {name} ahead after {c} rounds?
For every day of work {name} gets {a} dollars and has to pay {b} for the bus. \
How many dollars remain after {c} days of work?
How many free rooms are there in the town? \
It has {c} hotels with {a} rooms each, and in each hotel {b} rooms are taken.

b*c x+a
How many stairs does {name} climb if {he} goes up {a} to the door and then {b} flights of {c} stairs each?
{a} cars stand in the street. In a garage there are {b} floors with {c} cars on each. \
How many cars are in the garage and the street?
Before {name} bought {b} bags of {c} {things}, {he} already had {a}. How many {things} has {he} after that?
{name} owns {a} loose stamps, {b} full sheets with {c} stamps on every sheet, and no others. \
How many stamps does {he} own?
{b} packs of {c} candles each are added to the {a} candles in a drawer. How many candles are in the drawer now?
{name} has {b} bags with {c} {things} in each, and {other} has {a} {things}. How many {things} do they have together?
Each of {b} children brings {c} {things} to a table where {a} lie already. How many {things} are then on the table?
How many minutes did the trip take? {name} waited {a} minutes at the station and then rode on {b} trains for {c} \
minutes each.

b*c a-x
How many rolls are left when a baker had {a} and {b} guests took {c} rolls each?
A hall has {a} seats. {b} classes of {c} children each sit down there. How many seats stay empty?
{name} cuts {b} pieces of {c} meters each from a rope that was {a} meters long before. \
How many meters of rope are left?
{name} needs {a} bricks for a wall, has {b} carts, and finds {c} bricks in each of them. \
How many bricks are still missing?
Bags of {c} potatoes each are filled from a heap of {a} potatoes. \
How many potatoes are left in the heap when {b} bags are full?
{name} has to wash {a} plates. {other} washes {c} of them an hour for {b} hours, and {name} washes the rest. \
How many plates does {name} wash?
Each of {b} trucks takes away {c} of the {a} trees that were cut down. How many trees still lie in the forest?
How many dollars must {name} still pay? A bike costs {a} dollars, and {he} has paid {c} dollars a week for {b} weeks.

a-b x/c
How many cars are needed if {a} people want to go home, {b} of them walk and the others ride together, {c} in each car?
{c} painters share the work evenly. A house has {a} windows, and {b} are painted already. \
How many windows are left for each painter?
All but {b} of {a} eggs are good, and {name} packs the good ones in boxes of {c}. How many boxes does {he} fill?
{name} has {a} photos, gives away {b}, and puts {c} of the rest on each page of an album. \
How many pages does {he} fill?
From a rope of {a} meters, {b} meters are cut off. The rest is cut into {c} equal pieces. \
How many meters long is each piece?
{other} buys {b} of the {a} pears that {name} has. {name} puts the others into {c} baskets, the same number in each. \
How many are in a basket?
Each of {c} children gets the same number of {things} from {name}, who had {a} and keeps {b}. \
How many does a child get?
How many kilometers must {name} ride a day? \
The way is {a} kilometers, {he} has ridden {b}, and the rest is split evenly over {c} days.

a/b x*c
How many cents do {c} pens cost if {b} pens of the same kind cost {a} cents?
For a party {name} bakes {c} cakes. {he} knows that {b} such cakes take {a} eggs. How many eggs does {he} need?
After {b} minutes {a} liters of water have run into a pool, and it goes on like this. \
How many liters run in during {c} minutes?
A machine fills {a} bottles in {b} minutes, never gets slower or faster, and runs for {c} minutes. \
How many bottles does it fill?
{a} letters are delivered in {b} hours. How many letters are delivered in {c} hours at the same speed?
{name} pays {a} cents for {b} stamps. {other} buys {c} stamps of the same kind. How many cents does {other} pay?
Every guest gets the same number of potatoes, and {b} guests get {a}. \
How many potatoes does a cook take for {c} guests?
How many seats are in the hall? It has {c} rows, all rows are equally long, and {b} such rows together have {a} seats.

a+b x-c y+d
How many fish are in the pond if there were {a}, {name} put in {b}, birds caught {c} and {d} were born?
Tonight {d} new guests will come to a hotel. It had {a} guests, {b} came this morning and {c} left at noon. \
How many guests will it have?
Before {name} lost {c} cards and found {d} others, {he} had added {b} new cards to {his} {a} old ones. \
How many cards has {he} now?
In a game {name} gets {a} points, gets {b} more, loses {c}, and wins {d}. How many points has {he} in the end?
{b} books are added to the {a} on a shelf. Then {c} are taken out and {d} others are put in. \
How many books are on the shelf?
{name} owns {a} sheep and {other} owns {b}. They sell {c} of them and buy {d} new ones. \
How many sheep do they have now?
On {day} {a} children come to an empty camp, and then {b} more. On {next_day} {c} leave and {d} come. \
How many children are in the camp?
How many meters is the balloon above the ground? \
It rose {a} meters from the ground, rose {b} more, sank {c} meters and rose {d} again.

a-b x+c y-d
How many liters are in the barrel when it held {a}, {b} ran out, {c} were poured in and then {d} were used for the \
flowers?
In the evening {name} gave {d} nuts to the birds. \
{he} had {a} in the morning, ate {b} and then found {c} under a tree. How many has {he} now?
After {b} of the {a} cars in a garage have left and {c} others have come, {d} more leave. \
How many cars are in the garage?
{name} begins a game with {a} points, loses {b}, wins {c}, and loses {d}. How many points has {he} in the end?
From a hall with {a} chairs, {b} are carried out. Then {c} are brought in, and {d} broken ones are taken away. \
How many chairs are in the hall?
{name} has {a} {things} and gives {b} to {other}. Then {name} finds {c} in a box and loses {d}. \
How many {things} has {name} now?
On {day} {b} of the {a} books in a library are lent out. On {next_day} {c} come in and {d} go out. \
How many books are in the library then?
Find out how many sheep are in the field. There were {a}, {b} ran off, {c} were brought there and {d} were led away.

a+b x+c y-d
How many flowers are still fresh if {name} picks {a} roses, {b} tulips and {c} lilies and {d} of them dry up?
{d} of the animals on a farm are asleep. It has {a} cows, {b} pigs and {c} goats. How many of the animals are awake?
All but {d} of the {a} adults, {b} boys and {c} girls on a ship can swim. How many people on the ship can swim?
A box has {a} iron, {b} steel, and {c} copper nails in it, and {name} uses {d} of the nails. \
How many nails are left in the box?
First {a}, then {b} and then {c} bricks are put on an empty cart. At a house {d} bricks are taken off. \
How many are still on the cart?
{name} brings {a} cakes and {b} pies, and {other} brings {c} tarts. Of all these, {d} are eaten. \
How many of them are left?
On {day} {name} writes {a} letters in the morning and {b} at night, and on {next_day} {c}. \
Of all these letters {d} are not sent. How many are sent?
How many dollars has {name} left? {he} got {a} from {his} mother, {b} from {his} uncle and {c} from {his} aunt, and \
pays {d} to {other}.

a*b c*d x+y
How many eggs lie in a kitchen that has {a} small cartons with {b} eggs each and {c} large cartons with {d} eggs each?
On each of {c} evenings {name} sang {d} songs. On each of {a} mornings {he} sang {b}. How many songs did {he} sing?
After {a} hours at {b} kilometers an hour, a train goes on for {c} hours at {d} kilometers an hour. \
How many kilometers does it go in all?
{name} lays {a} rows of {b} red tiles, {c} rows of {d} blue tiles, and no others. How many tiles does {he} lay?
{b} books are put on each of {a} empty low shelves, and {d} books are put on each of {c} empty high shelves. \
How many books are on all these shelves now?
{name} has {a} bags with {b} {things} in each, and {other} has {c} bags with {d} in each. \
How many {things} do they have together?
Each of {a} boys brings {b} {things}, and each of {c} girls brings {d}. How many {things} do the children bring?
How many cents does the shop get? It sells {a} cards at {b} cents each and {c} stamps at {d} cents each.

a*b c*d x-y
How many potatoes are left when {name} had {a} sacks of {b} potatoes and filled {c} pots with {d} potatoes each?
{c} cooks need {d} eggs each. In the kitchen are {a} boxes of {b} eggs. \
How many eggs are left when every cook has taken enough?
Before {c} trucks took away {d} logs each, there were {a} piles of {b} logs. How many logs remained after that?
A hall has {a} rows, {b} seats in each row, and {c} groups of {d} people in its seats. How many seats are free?
{a} trays of {b} plants are put out in front of a shop, and {d} plants are sold to each of {c} people. \
How many plants are not sold?
{name} saves {b} cents on each of {a} days, and {other} saves {d} cents on each of {c} days. \
How many cents more does {name} save?
For every one of {a} games {name} gets {b} points, and for every one of {c} mistakes {he} loses {d}. \
How many points has {he} in the end?
Find out how many pages {name} still has to read. \
{he} has {a} books of {b} pages each and has read {d} pages on each of {c} days.

a*b x+c y-d
How many candles remain if {name} has {a} boxes of {b} candles, finds {c} in a drawer and burns {d} of all the candles?
{d} of {name}'s stamps go to {other}. {name} had {c} loose stamps and {a} full pages with {b} stamps each. \
How many stamps does {name} keep?
All but {d} of the people in a hall are singing. {a} rows of {b} people and a choir of {c} people are there. \
How many people are singing?
A truck carries {a} crates of {b} melons, {c} loose melons, and nothing else, and {d} melons roll off. \
How many melons stay on the truck?
{a} bags of {b} coins are emptied on a bare table, {c} coins are added, and {d} are taken away. \
How many coins lie there now?
{name} bakes {a} trays of {b} rolls, and {other} bakes {c} rolls. They sell {d} of them. \
How many rolls do they have left?
Each of {a} children brings {b} balloons, and the teacher brings {c}. Then {d} of the balloons burst. \
How many balloons are left?
How many points has {name} now? {he} won {a} games, got {b} points for each, then once got {c} more for speed and \
once lost {d} for a mistake.

a*b x-c y+d
How many chairs are in the hall if it had {a} rows of {b}, {c} chairs were carried out and {d} new ones came in?
{d} bottles stand in the cellar. In the kitchen were {a} crates of {b} bottles, but {c} of those bottles broke. \
How many whole bottles are in the house?
After selling {c} of the eggs from {a} boxes of {b}, {name} gets {d} fresh eggs from {his} hens. \
How many eggs has {he} then?
{name} sets {a} rows of {b} plants, loses {c} of the plants in the cold, and sets {d} new plants. \
How many plants has {he} now?
{b} books are put on each of {a} empty shelves. \
Then {c} of all these books are taken off, and {d} others are put there. How many books are on the shelves?
{name} has {a} packs of {b} cards and gives {c} cards to {other}, who gives {d} other cards in return. \
How many cards has {name} after that?
Each of {a} ships brings {b} people to an empty island. Later {c} people leave it, and {d} come by plane. \
How many people are on the island?
How many cents has {name} in the end? {he} sold {a} glasses of juice at {b} cents each, paid {c} cents for lemons and \
found {d} cents.

a+b x*c y-d
How many eggs are left if hens lay {a} white and {b} brown eggs a day for {c} days and {d} of the eggs are eaten?
{d} of the players are ill today. Each of {c} teams has {a} girls and {b} boys. How many players are not ill?
All but {d} of the plates in {c} cupboards are clean. In every cupboard are {a} large and {b} small plates. \
How many plates are clean?
A kit has {a} screws, {b} nails, and nothing else. {name} buys {c} such kits and uses {d} of the pieces. \
How many pieces are left?
{a} red and {b} yellow flowers are put into each of {c} vases. Later {d} dry flowers are thrown away. \
How many are still in the vases?
In an hour {name} folds {a} paper birds and {other} folds {b}. They fold for {c} hours and sell {d} of the birds. \
How many do they keep?
For every one of {c} walks {name} gets {a} dollars from a neighbor and {b} from {other}. {he} spends {d} dollars. \
How many has {he} still?
How many cents must {name} still pay? {he} orders {c} meals, each a soup for {a} cents and a roll for {b}, and has \
paid {d} cents already.

a+b x/c y+d
How many {things} has {name} now if {he} had {d} and then got {his} share when {c} children split {a} small and {b} \
large ones evenly?
{other} already has {d} cards. Then {a} red and {b} black cards are dealt evenly to {c} players. \
{other} is one of them. How many has {other} now?
After {a} sheep and {b} goats have been split into {c} equal herds, {d} more animals join the first herd. \
How many animals are in it?
{name} mixes {a} plums and {b} cherries, splits them all evenly into {c} bowls, and adds {d} nuts to each bowl. \
How many plums, cherries and nuts are in a bowl in all?
{b} bricks are added to a pile of {a}. All are loaded on {c} carts in equal parts, and {d} more are put on the last \
cart. How many are on that cart?
There are {d} pens in each of {c} boxes. {name} has {a} other pens, {other} has {b}, and they spread all of these \
evenly over the boxes. How many are in each box now?
Each of {c} shelves gets an equal part of {a} thick and {b} thin books, and {d} maps are added to each shelf. \
How many books and maps are on a shelf?
How many minutes a day is {name} busy? {a} minutes of reading and {b} of writing are split evenly over {c} days, and \
{he} also draws for {d} minutes each day.

a-b x/c y-d
How many nuts has each child left if {b} of {a} nuts are bad, {c} children share the good ones evenly and each eats \
{d}?
{d} seats in every row are broken. Of {a} seats in a hall, {b} are on the balcony, and the others form {c} equal \
rows. How many good seats has a row?
All but {b} of {a} bottles are full. The full ones go into {c} crates, the same number in each, and {d} are taken out \
of the first. How many stay in it?
{name} has {a} dollars, keeps {b}, splits the rest evenly among {c} cousins, and sees each of them spend {d}. \
How many dollars has each cousin then?
{b} sheep are sold from a flock of {a}. The rest are split evenly over {c} fields, and {d} are led out of the last \
field. How many remain in that field?
{name} gives {b} of {his} {a} cards to {other} and deals the rest evenly to {c} other people. \
Each of these puts down {d} cards. How many does each still hold?
In each of {c} rooms are equally many guests. {a} were invited, but {b} of them did not come. \
Now {d} guests leave each room. How many stay in a room?
How many pages has {name} left for today? Of {a} pages {he} had read {b}, the rest is split evenly over {c} days, and \
{d} pages of today's part are done.

a*b x/c y+d
How many coins are in a chest if {a} sacks of {b} coins are emptied evenly into {c} chests and {d} more coins are put \
into each chest?
{d} books were already on each shelf. Now {a} boxes of {b} books are emptied and spread evenly over the {c} shelves. \
How many books are on a shelf?
After all the players of {a} teams of {b} have been split into {c} equal groups, {d} more players join each group. \
How many players are in a group?
{name} opens {a} bags, finds {b} {things} in each, shares them evenly among {c} children, and gives {d} more to \
{other}, one of the children. How many has {other}?
{a} rows of {b} cabbages are cut and loaded on {c} carts in equal numbers, and {d} more are added to the last cart. \
How many does that cart carry?
{name} earns {b} dollars on each of {a} days and splits them evenly among {c} people. \
{other} is one of them and had {d} before. How many has {other} now?
Each of {a} hens lays {b} eggs. All these eggs are split evenly over {c} baskets, and each basket held {d} eggs \
before. How many eggs are in a basket now?
Find out how many pages {name} reads a day if {he} splits {a} books of {b} pages evenly over {c} days and reads {d} \
pages of a newspaper every day too.

a/b x*c y+d
How many dollars does {name} get if {b} hours of work bring {a} dollars and {he} works {c} hours and is given {d} \
dollars more?
A bag costs {d} cents. {b} pears cost {a} cents. How many cents does {name} pay for a bag and {c} such pears?
A machine makes {a} bricks in {b} hours. After it has run for {c} hours, {d} bricks from another machine are added. \
How many bricks are there?
{b} equal strings of beads have {a} beads in all, and {name} has {c} such strings, {d} loose beads, and no others. \
How many beads has {he}?
A tank holds {d} liters of water. More is pumped in for {c} minutes, {a} liters in every {b} minutes. \
How many liters are in the tank then?
{name} types {a} words in {b} minutes. {other} types just as fast for {c} minutes, and then {d} words more. \
How many words does {other} type?
Every ticket for a theater costs the same, and {b} tickets cost {a} dollars. \
It sells {c} tickets and gets {d} dollars for drinks. How many dollars does it get in all?
How many kilometers has {name} ridden? {he} had ridden {d} before noon and then rode on for {c} hours, and {b} hours \
of riding make {a} kilometers.
"""
