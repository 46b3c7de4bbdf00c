"""Stories of the word problems with one step, in the format that `problems.read_stories` parses.

The first line of a block has the steps: a to d are given numbers; x, y and z the results of the first, second and
third step. The other lines are phrasings of the story.
"""

ADDITION_STORIES = """
a+b
{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?
{other} gives {name} {a} {things} and then {b} more {things}. How many {things} does {name} get in all?
How many {things} does {name} have if {he} had {a} {things} and got {b} more?
At first {name} has {a} {things}. Then {he} gets {b} more. How many {things} does {he} have in all?

a+b
{name} has {a} {things} and {other} has {b} {things}. How many {things} do they have together?
{name} has {a} {things}. {other} has {b} {things}. How many {things} do the two have in all?
Together, how many {things} do {name} and {other} have if {name} has {a} and {other} has {b}?
{name} and {other} put their {things} together. {name} has {a} and {other} has {b}. How many are there in all?

a+b
There are {a} {things} on the table, and {name} brings {b} more. How many {things} are on the table now?
On the table there are {a} {things}. {name} puts {b} more {things} on it. How many are there now?
{name} puts {b} {things} on a table where {a} {things} are already. How many {things} are on the table then?
{name} brings {b} {things} to the table. There were {a} {things} on it before. How many are there in all?

a+b
{name} reads {a} pages on {day} and {b} pages on {next_day}. How many pages does {name} read in all?
On {day} {name} reads {a} pages, and on {next_day} {he} reads {b} pages. How many pages is that together?
How many pages does {name} read in two days if {he} reads {a} on {day} and {b} on {next_day}?
In two days, {name} reads {a} pages and then {b} pages. How many pages has {he} read in all?

a+b
A school has {a} girls and {b} boys. How many children are there in the school?
There are {a} girls and {b} boys in a school. How many children is that in all?
How many children go to a school with {a} girls and {b} boys?
In a school of girls and boys there are {a} girls. There are also {b} boys. How many children are there together?

a+b
{name} pays {a} dollars for a book and {b} dollars for a lamp. How many dollars does {name} pay in all?
A book costs {a} dollars and a lamp costs {b} dollars. How many dollars do they cost together?
How many dollars does {name} need for a book of {a} dollars and a lamp of {b} dollars?
{name} buys a book and a lamp. The book costs {a} dollars, the lamp {b} dollars. How many dollars is that in all?

a+b
A train has {a} people on it. At the next town, {b} people get on. How many people are on the train now?
There are {a} people on a train, and {b} more get on. How many people are on the train then?
How many people are on a train if there were {a} and {b} more got on?
Now {b} people get on a train that had {a} people before. How many people are on the train in all?

a+b
A farmer has {a} cows and {b} sheep. How many animals does the farmer have?
There are {a} cows and {b} sheep on a farm. How many animals is that in all?
How many animals are on a farm with {a} cows and {b} sheep?
On the farm of {name} live {a} cows. {b} sheep live there, too. How many animals are there together?

a+b
{name} walks {a} kilometers in the morning and {b} kilometers in the evening. How many kilometers is that in all?
In the morning {name} walks {a} kilometers, and in the evening {b} more. How many kilometers does {name} walk?
How many kilometers does {name} walk if {he} walks {a} in the morning and {b} in the evening?
{name} goes for two walks, one of {a} kilometers and one of {b} kilometers. How many kilometers is that together?

a+b
{name} plants {a} red flowers and {b} yellow flowers. How many flowers does {name} plant in all?
In a garden there are {a} red flowers and {b} yellow flowers. How many flowers are there together?
How many flowers are in a garden with {a} red ones and {b} yellow ones?
A garden has red and yellow flowers: {a} red ones and {b} yellow ones. How many flowers does it have in all?

a+b
A tree is {a} years old. How old will the tree be in {b} years?
Today a house is {a} years old. How old will it be {b} years from now?
How old will a tree be in {b} years if it is {a} years old now?
In {b} years, how old will a house be? Today it is {a} years old.

a+b
{name} finds {a} {things} in the morning and {b} {things} after dinner. How many {things} does {name} find in all?
In the morning {name} finds {a} {things}. After dinner {he} finds {b} more. How many does {he} find together?
How many {things} has {name} found if {he} found {a} at first and {b} more after that?
{name} looks for {things}. {he} finds {a} of them, and later {b} more. How many {things} is that in all?
"""

SUBTRACTION_STORIES = """
a-b
{name} has {a} {things} and gives away {b}. How many {things} does {name} have left?
{name} has {a} {things}. {he} gives {b} of them to {other}. How many {things} are left for {name}?
How many {things} does {name} have left if {he} had {a} {things} and gave away {b}?
At first {name} has {a} {things}. Then {he} gives {b} away. How many {things} has {he} left?

a-b
Of {a} {things}, {name} loses {b}. How many {things} are left?
{name} had {a} {things} but lost {b} of them. How many {things} does {name} have left?
How many {things} are left if {name} had {a} and lost {b}?
{name} loses {b} of {his} {a} {things}. How many {things} does {he} have left?

a-b
There are {a} {things} on the table, and {name} takes {b} away. How many {things} are left on the table?
On the table there are {a} {things}. {name} takes {b} of them. How many are left?
{name} takes {b} {things} from a table with {a} {things} on it. How many {things} are left there?
{name} takes {b} {things} away. There were {a} {things} on the table before. How many are left now?

a-b
A book has {a} pages. {name} has read {b} pages. How many pages are left?
{name} reads a book of {a} pages and has read {b} of them. How many pages are left to read?
How many pages are left in a book of {a} pages if {name} has read {b}?
{name} has read {b} pages of a book. The book has {a} pages. How many pages are left?

a-b
{name} has {a} dollars and pays {b} dollars for a book. How many dollars are left?
{name} buys a book for {b} dollars. {he} had {a} dollars. How many dollars does {name} have left?
How many dollars does {name} have left from {a} dollars after paying {b} dollars?
With {a} dollars {name} buys a lamp for {b} dollars. How many dollars are left?

a-b
There are {a} people on a train. At the next town, {b} people get off. How many people are left on the train?
A train has {a} people on it, and {b} of them get off. How many people are on the train then?
How many people are left on a train with {a} people if {b} get off?
Now {b} people get off a train that had {a} people before. How many people are left?

a-b
There are {a} children in a school, and {b} of them are girls. How many boys are there?
Of the {a} children in a school, {b} are girls and the others are boys. How many boys are there?
How many boys are in a school of {a} children if {b} are girls?
A school has {a} children. If {b} of them are girls, how many are boys?

a-b
{name} has {a} {things} and {other} has {b}. How many more {things} does {name} have than {other}?
{other} has {b} {things}. {name} has {a} {things}. How many more does {name} have than {other}?
How many more {things} does {name} have than {other} if {name} has {a} and {other} has {b}?
If {name} has {a} {things} and {other} has {b} {things}, how many more has {name} than {other}?

a-b
{name} bakes {a} cookies, and the children eat {b} of them. How many cookies are left?
The children eat {b} of the {a} cookies that {name} has baked. How many cookies are left?
How many cookies are left if {name} bakes {a} and {other} eats {b}?
There are {a} cookies. {name} and {other} eat {b} of them. How many cookies are left?

a-b
One house is {a} years old, and another is {b} years old. How many years older is the first house?
The tree of {other} is {b} years old, and that of {name} is {a}. How many years older is the tree of {name}?
How many years older is a tree of {a} years than a tree of {b} years?
How many years is the house of {name} older than that of {other}? The first is {a} years old, the other {b}.

a-b
It is {a} kilometers to the sea, and {name} has walked {b} kilometers. How many kilometers are left?
{name} has walked {b} of the {a} kilometers to the sea. How many kilometers are left?
How many kilometers are left on a way of {a} kilometers if {name} has walked {b}?
The way to the lake is {a} kilometers. {name} has gone {b} kilometers of it. How many kilometers are left?

a-b
A tree has {a} leaves, and {b} of them fall. How many leaves are left on the tree?
There are {a} birds in a tree, and {b} fly away. How many birds are left in the tree?
How many birds are left in a tree with {a} birds if {b} fly away?
Now {b} of the {a} birds in a tree fly away. How many birds are left?
"""

MULTIPLICATION_STORIES = """
a*b
{name} fills {a} boxes with {b} {things} each. How many {things} does {name} need?
There are {a} boxes with {b} {things} in each box. How many {things} are there in all?
How many {things} are there in {a} boxes if each box holds {b} {things}?
{name} has {a} boxes. In each box there are {b} {things}. How many {things} does {he} have in all?

a*b
{name} gives {b} {things} to each of {a} children. How many {things} does {name} give away?
Each of {a} children gets {b} {things} from {name}. How many {things} is that in all?
How many {things} does {name} need if each of {a} children gets {b} {things}?
There are {a} children, and {name} gives {b} {things} to each of them. How many {things} is that?

a*b
One {thing} costs {a} cents. How many cents do {b} {things} cost?
{name} buys {b} {things} for {a} cents each. How many cents does {name} pay?
How many cents do {b} {things} cost if each {thing} costs {a} cents?
Each {thing} costs {a} cents. {name} buys {b} of them. How many cents is that in all?

a*b
{name} reads {a} pages every day. How many pages does {name} read in {b} days?
In {b} days, {name} reads {a} pages each day. How many pages is that in all?
How many pages does {name} read in {b} days if {he} reads {a} pages a day?
Every day {name} reads {a} pages of a book. How many pages has {he} read after {b} days?

a*b
A school has {a} rooms with {b} children in each. How many children are there in all?
There are {b} children in each of the {a} rooms of a school. How many children is that?
How many children are in a school with {a} rooms and {b} children in each room?
In a school with {a} rooms, each room has {b} children. How many children are there in all?

a*b
A garden has {a} rows with {b} flowers in each row. How many flowers are there in the garden?
{name} plants {a} rows of flowers, {b} flowers in each row. How many flowers is that in all?
How many flowers are there in {a} rows if there are {b} flowers in each row?
{name} plants {b} flowers in each row of a garden. There are {a} rows. How many flowers does {he} plant?

a*b
A car goes {a} kilometers every hour. How many kilometers does it go in {b} hours?
In one hour a train goes {a} kilometers. How many kilometers does it go in {b} hours?
How many kilometers does a car go in {b} hours if it goes {a} kilometers in each hour?
Every hour {name} drives {a} kilometers. How many kilometers does {he} drive in {b} hours?

a*b
{name} saves {a} dollars every week. How many dollars does {name} save in {b} weeks?
Every week {name} saves {a} dollars. How many dollars is that in {b} weeks?
How many dollars does {name} have after {b} weeks if {he} saves {a} dollars each week?
For {b} weeks, {name} saves {a} dollars every week. How many dollars does {he} save in all?

a*b
A baker bakes {a} loaves of bread every hour. How many loaves does the baker bake in {b} hours?
Every hour a baker makes {a} cakes. How many cakes does the baker make in {b} hours?
How many cakes are baked in {b} hours if {a} cakes are baked every hour?
A baker works for {b} hours and bakes {a} cakes in each hour. How many cakes is that in all?

a*b
{a} friends have {b} {things} each. How many {things} do they have together?
Each of {a} friends has {b} {things}. How many {things} do they have in all?
How many {things} do {a} friends have together if each has {b} {things}?
There are {a} friends. Each of them has {b} {things}. How many {things} do the friends have together?

a*b
A house has {a} windows. How many windows do {b} such houses have?
There are {b} houses, and each house has {a} windows. How many windows are there in all?
How many windows do {b} houses have if each house has {a} windows?
In a village there are {b} houses with {a} windows each. How many windows is that in all?

a*b
{name} puts {a} {things} on each of {b} plates. How many {things} are there in all?
There are {a} {things} on each plate. How many {things} are there on {b} plates?
How many {things} does {name} need for {b} plates if {he} puts {a} on each plate?
On each of the {b} plates there are {a} {things}. How many {things} is that in all?
"""

DIVISION_STORIES = """
a/b
{name} shares {a} {things} equally among {b} children. How many {things} does each child get?
{b} children share {a} {things} equally. How many {things} does each of them get?
How many {things} does each child get if {name} shares {a} {things} equally among {b} children?
There are {a} {things}. {name} shares them equally among {b} children. How many does each child get?

a/b
{name} puts {a} {things} into boxes of {b}. How many boxes does {name} fill?
{a} {things} are put into boxes, {b} {things} in each box. How many boxes are there?
How many boxes does {name} need for {a} {things} if each box holds {b}?
Each box holds {b} {things}. How many boxes does {name} need for {a} {things}?

a/b
{name} puts {a} {things} equally into {b} bags. How many {things} are in each bag?
{a} {things} are in {b} bags, the same number in each bag. How many {things} are in each bag?
How many {things} are in each bag if {name} puts {a} {things} equally into {b} bags?
There are {b} bags for {a} {things}, and each bag gets the same number. How many {things} are in each bag?

a/b
A book has {a} pages. {name} reads {b} pages a day. How many days does {name} need?
{name} reads {b} pages every day. How many days does {he} need for a book of {a} pages?
How many days does {name} need to read {a} pages if {he} reads {b} pages a day?
For a book of {a} pages, how many days does {name} need if {he} reads {b} pages each day?

a/b
{b} {things} cost {a} cents. How many cents does one {thing} cost?
{name} pays {a} cents for {b} {things}. How many cents does each {thing} cost?
How many cents does one {thing} cost if {b} {things} cost {a} cents?
For {b} {things} {name} pays {a} cents. How many cents is that for each {thing}?

a/b
There are {a} flowers in {b} equal rows. How many flowers are in each row?
{name} plants {a} flowers in {b} equal rows. How many flowers are there in each row?
How many flowers are in each row if {a} flowers stand in {b} equal rows?
A garden has {b} equal rows with {a} flowers in all. How many flowers are in each row?

a/b
A school puts its {a} children into {b} equal groups. How many children are in each group?
{a} children make {b} equal groups. How many children are in each group?
How many children are in each group if {a} children make {b} equal groups?
There are {b} equal groups of children, {a} children in all. How many children are in each group?

a/b
{name} saves {b} dollars every week. How many weeks does {he} need to save {a} dollars?
A lamp costs {a} dollars. {name} saves {b} dollars a week. How many weeks does {name} need?
How many weeks does {name} need for {a} dollars if {he} saves {b} dollars every week?
To save {a} dollars, how many weeks does {name} need with {b} dollars each week?

a/b
A train goes {a} kilometers in {b} hours. How many kilometers does it go in each hour?
In {b} hours a car goes {a} kilometers. How many kilometers does it go in one hour?
How many kilometers does a car go in one hour if it goes {a} kilometers in {b} hours?
{name} drives {a} kilometers in {b} hours. How many kilometers is that in each hour?

a/b
A teacher shares {a} books equally among {b} rooms. How many books does each room get?
{b} rooms share {a} chairs equally. How many chairs does each room get?
How many chairs does each room get if {a} chairs are shared equally among {b} rooms?
There are {a} chairs for {b} rooms, the same number for each. How many chairs does each room get?

a/b
{name} and {his} friends are {b} children. They share {a} cookies equally. How many cookies does each get?
{a} cookies are shared equally by {b} friends. How many cookies does each friend get?
How many cookies does each friend get if {b} friends share {a} cookies equally?
There are {b} friends and {a} cookies to be shared equally. How many cookies does each friend get?

a/b
A car holds {b} people. How many cars are needed for {a} people?
{a} people want to drive, and each car holds {b} of them. How many cars do they need?
How many cars do {a} people need if each car holds {b} people?
For {a} people, how many cars are needed if {b} people go in each car?
"""
