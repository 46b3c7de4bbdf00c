"""Stories of the word problems with two and three steps, written as in `one_step_stories`.

Of the first four phrasings of each story, one is held out for exams and another is used by GRPO's problems, but by no
conversation. Those that follow are shown in conversations: a model that has met more phrasings solves more new ones.
"""

TWO_STEP_STORIES = """
a+b x-c
{name} has {a} {things}, gets {b} more and gives away {c}. How many {things} does {name} have left?
{name} has {a} {things}. {other} gives {name} {b} more. Then {name} loses {c}. How many {things} are left?
How many {things} are left if {name} has {a} {things}, gets {b} more and loses {c} of them?
At first {name} has {a} {things}. {he} gets {b} more and then gives {c} away. How many {things} are left?
{name} had {a} {things}. After getting {b} more, {he} lost {c}. How many {things} are left?
There were {a} {things} in a bag. {name} put in {b} more, and {other} took out {c}. How many are in it now?

a-b x+c
{name} has {a} {things}, gives away {b} and gets {c} more. How many {things} does {name} have now?
{name} has {a} {things}. {he} loses {b} of them. Then {other} gives {name} {c} more. How many are there now?
How many {things} does {name} have if {he} had {a}, gave away {b} and got {c} more?
At first {name} has {a} {things}. {he} gives {b} away and then gets {c} more. How many {things} are there in all?
{name} had {a} {things}. After losing {b}, {he} got {c} more. How many {things} does {name} have now?
There were {a} {things} in a bag. {name} took out {b}, and {other} put in {c}. How many are in it now?

a-b x-c
{name} has {a} {things}, gives {b} to {other} and loses {c}. How many {things} are left?
There are {a} {things} on the table. {name} takes {b}, and {other} takes {c}. How many {things} are left?
How many {things} are left if {name} had {a}, gave away {b} and lost {c}?
Of {a} {things}, {name} gives away {b}. Then {he} loses {c} of them. How many {things} are left?
{name} had {a} {things}. After losing {b}, {he} gave away {c}. How many {things} are left?
{name} put {a} {things} into a bag. {b} fell out, and then {c} were lost. How many are in the bag now?

a+b x+c
{name} finds {a} {things} on {day}, {b} in the morning of {next_day} and {c} in the evening. How many is that in all?
{name} has {a} {things}, gets {b} more and then {c} more. How many {things} does {name} have in all?
How many {things} are there if {name} brings {a}, {other} brings {b} and a friend brings {c}?
{name} has {a} {things}. {other} gives {name} {b} more, and a friend gives {c} more. How many are there in all?
{name} had {a} {things}. After getting {b}, {he} found {c} more. How many {things} does {name} have now?
There were {a} {things} in a bag. {name} put in {b}, and {other} put in {c} more. How many are in it now?

a*b x+c
{name} has {a} boxes with {b} {things} each and {c} more {things}. How many {things} does {name} have in all?
There are {a} boxes with {b} {things} in each box, and {c} more {things} on the table. How many are there in all?
How many {things} does {name} have if {he} has {a} boxes of {b} {things} and gets {c} more?
{name} fills {a} boxes with {b} {things} each. Then {he} finds {c} more {things}. How many is that in all?
{name} had {a} boxes of {b} {things}. After that, {he} got {c} more {things}. How many {things} does {name} have now?
{a} bags hold {b} {things} each. {other} brings {c} more. How many {things} are there now?

a*b x-c
{name} has {a} boxes with {b} {things} each and gives away {c} {things}. How many {things} are left?
There are {a} bags with {b} {things} in each bag. {name} takes {c} {things} away. How many {things} are left?
How many {things} are left if {name} has {a} boxes of {b} {things} and loses {c} {things}?
{name} fills {a} boxes with {b} {things} each. Then {he} gives {c} {things} away. How many {things} are left?
{name} had {a} boxes of {b} {things}. After that, {he} lost {c} {things}. How many {things} are left?
{a} bags hold {b} {things} each. {other} takes {c} away. How many {things} are there now?

a*b x/c
{name} has {a} boxes with {b} {things} each and shares them equally among {c} children. How many does each child get?
There are {a} bags of {b} {things}. {c} children share all the {things} equally. How many does each child get?
How many {things} does each of {c} children get if they share {a} boxes of {b} {things} equally?
{a} boxes hold {b} {things} each. {name} shares all of them equally among {c} friends. How many does each friend get?
{name} had {a} boxes of {b} {things}. {c} children shared them equally. How many {things} did each child get?
{a} bags hold {b} {things} each. All of them are put equally into {c} boxes. How many are in each box?

a+b x/c
{name} has {a} red {things} and {b} blue {things} and shares them equally among {c} children. How many does each get?
{name} brings {a} {things} and {other} brings {b}. {c} children share them equally. How many does each child get?
How many {things} does each of {c} children get if they share {a} red and {b} blue {things} equally?
{name} has {a} {things} and gets {b} more. {he} shares them equally among {c} friends. How many does each get?
{name} had {a} {things}. After getting {b} more, {he} put them equally into {c} boxes. How many are in each box?
There were {a} {things} in a bag. {name} put in {b} more. {c} children share them equally. How many does each get?

a/b x-c
{name} shares {a} {things} equally among {b} children. Each child loses {c}. How many does each child have left?
{b} children share {a} {things} equally. Then {name}, one of them, gives away {c}. How many has {name} left?
How many {things} does each of {b} children have left if they share {a} equally and each loses {c}?
{a} {things} are shared equally by {b} friends. Each friend gives {c} of them away. How many has each left?
{name} put {a} {things} equally into {b} boxes and then took {c} out of each. How many are in each box?
Each of {b} children gets an equal share of {a} {things} and loses {c}. How many {things} has each child now?

a/b x+c
{b} children share {a} {things} equally. {name}, one of them, gets {c} more. How many {things} does {name} have now?
{name} shares {a} {things} equally among {b} children and gives each child {c} more. How many does each child have?
How many {things} does each of {b} children have if they share {a} equally and each finds {c} more?
{a} {things} are shared equally by {b} friends. Then each friend gets {c} more. How many does each friend have?
{name} put {a} {things} equally into {b} boxes and then put {c} more into each. How many are in each box?
Each of {b} children gets an equal share of {a} {things} and finds {c} more. How many {things} has each child now?

a+b x*c
Each of {c} children gets {a} red {things} and {b} blue {things}. How many {things} do they get in all?
Every day {name} reads {a} pages in the morning and {b} in the evening. How many pages does {he} read in {c} days?
How many {things} are in {c} boxes if each box holds {a} red and {b} blue {things}?
{name} puts {a} red and {b} blue {things} into each of {c} bags. How many {things} is that in all?
{c} children get {a} red {things} and {b} blue {things} each. How many {things} are there in all?
On each of {c} days, {name} finds {a} {things} and then {b} more. How many {things} does {he} find in all?

a-b x*c
{name} earns {a} dollars a day and spends {b} dollars of them. How many dollars does {name} have after {c} days?
Each of {c} boxes had {a} {things}, but {b} are taken from each box. How many {things} are left in all?
How many {things} are left in {c} bags if each bag had {a} {things} and {name} takes {b} from each?
Every day {name} gets {a} {things} and gives away {b} of them. How many {things} has {he} left after {c} days?
{c} children had {a} {things} each, and each of them lost {b}. How many {things} are left in all?
On each of {c} days, {name} gets {a} {things} and loses {b}. How many {things} does {he} keep in all?

b*c x+a
{name} has {a} {things} and buys {b} bags with {c} {things} each. How many {things} does {name} have now?
There are {a} {things} on the table. {name} brings {b} boxes with {c} {things} each. How many are there in all?
How many {things} does {name} have if {he} had {a} and gets {b} boxes of {c} {things}?
At first {name} has {a} {things}. Then {he} gets {b} boxes with {c} {things} in each. How many is that in all?
{name} had {a} {things}. After that, {he} got {b} boxes of {c} {things}. How many {things} does {name} have now?
There were {a} {things} in a bag. {name} brings {b} bags of {c} {things}. How many {things} are there now?

b*c a-x
{name} has {a} {things} and gives {c} {things} to each of {b} children. How many {things} are left?
{name} has {a} dollars and buys {b} books for {c} dollars each. How many dollars are left?
How many {things} are left of {a} {things} if each of {b} children takes {c}?
At first {name} has {a} {things}. Then {he} fills {b} bags with {c} {things} each. How many {things} are left?
{name} had {a} {things}. {b} children took {c} of them each. How many {things} are left?
There were {a} {things} in a bag. {b} friends took out {c} each. How many are in it now?

a-b x/c
{name} has {a} {things}, loses {b} and shares the others equally among {c} children. How many does each child get?
Of {a} {things}, {name} takes {b}. {c} children share the others equally. How many {things} does each child get?
How many {things} does each of {c} children get if they share {a} {things} equally after {name} takes {b} away?
{name} has {a} {things} and gives away {b}. {he} puts the others equally into {c} bags. How many are in each bag?
{name} had {a} {things}. After losing {b}, {he} put the others equally into {c} boxes. How many are in each box?
{name} took {b} out of {a} {things} and filled {c} boxes equally with the others. How many are in each box?

a/b x*c
{b} {things} cost {a} cents. How many cents do {c} {things} cost?
{a} {things} are put equally into {b} boxes. How many {things} are there in {c} of the boxes?
How many kilometers does a car go in {c} hours if it goes {a} kilometers in {b} hours?
{name} pays {a} cents for {b} {things}. How many cents does {he} pay for {c} {things}?
{name} buys {b} {things} for {a} cents. How many cents do {c} {things} cost?
For {a} cents {name} gets {b} {things}. How many cents does {he} need for {c} {things}?
"""

THREE_STEP_STORIES = """
a+b x-c y+d
{name} has {a} {things}, gets {b} more, gives away {c} and finds {d}. How many {things} does {name} have now?
There are {a} people on a train. {b} get on, {c} get off, and then {d} get on. How many people are on the train?
How many {things} does {name} have if {he} had {a}, got {b} more, lost {c} and found {d}?
At first {name} has {a} {things}. {he} gets {b}, gives {c} away and then gets {d} more. How many is that in all?
{name} had {a} {things}. After getting {b} more, {he} lost {c} and found {d}. How many {things} does {name} have now?
There were {a} {things} in a bag. {name} put in {b}, {other} took out {c}, and a friend put in {d}. \
How many are in it now?

a-b x+c y-d
{name} has {a} {things}, gives away {b}, gets {c} more and loses {d}. How many {things} are left?
There are {a} people on a train. {b} get off, {c} get on, and then {d} get off. How many people are left?
How many {things} are left if {name} had {a}, lost {b}, found {c} and gave away {d}?
At first {name} has {a} {things}. {he} loses {b}, gets {c} more and then gives {d} away. How many are left?
{name} had {a} {things}. After losing {b}, {he} got {c} more and gave away {d}. How many {things} are left?
There were {a} {things} in a bag. {name} took out {b}, {other} put in {c}, and a friend took out {d}. \
How many are in it now?

a+b x+c y-d
{name} has {a} {things}, gets {b} more, finds {c} more and gives away {d}. How many {things} are left?
{name} finds {a} {things} on {day}, {b} on {next_day} and {c} after that. {he} loses {d}. How many are left?
How many {things} are left if {name} brings {a}, {other} brings {b}, a friend brings {c} and {d} are lost?
{name} has {a} {things}. {other} gives {name} {b} more, and a friend {c} more. {name} loses {d}. How many are left?
{name} had {a} {things}. After getting {b}, {he} got {c} more and lost {d}. How many {things} are left?
There were {a} {things} in a bag. {name} put in {b}, {other} put in {c}, and a friend took out {d}. \
How many are in it now?

a*b c*d x+y
{name} has {a} boxes with {b} {things} each and {c} bags with {d} {things} each. How many {things} are there in all?
There are {a} boxes of {b} {things} and {c} boxes of {d} {things}. How many {things} is that together?
How many {things} are there in {a} boxes of {b} and {c} bags of {d} {things}?
{name} fills {a} boxes with {b} {things} each, and {other} fills {c} bags with {d} each. How many is that in all?
{name} had {a} boxes of {b} {things}. After that, {he} got {c} bags of {d} {things}. How many are there now?
{a} bags hold {b} {things} each, and {c} boxes hold {d} each. How many {things} are there in all?

a*b c*d x-y
{name} has {a} boxes with {b} {things} each. {he} gives {d} {things} to each of {c} children. How many are left?
There are {a} bags with {b} {things} each. {c} children take {d} {things} each. How many {things} are left?
How many {things} are left of {a} boxes with {b} {things} each if {c} children take {d} each?
{name} fills {a} boxes with {b} {things} each. Then each of {c} friends takes {d} {things} away. How many are left?
{name} had {a} boxes of {b} {things}. {c} children took {d} of them each. How many {things} are left?
{a} bags hold {b} {things} each. {name} gives {d} {things} to each of {c} friends. How many {things} are there now?

a*b x+c y-d
{name} has {a} boxes with {b} {things} each, gets {c} more {things} and gives away {d}. How many are left?
There are {a} bags with {b} {things} each. {name} brings {c} more {things}, and {other} takes {d}. How many are left?
How many {things} are left if {name} has {a} boxes of {b} {things}, gets {c} more and loses {d}?
{name} fills {a} boxes with {b} {things} each. {he} finds {c} more and then gives {d} away. How many are left?
{name} had {a} boxes of {b} {things}. After that, {he} got {c} more and lost {d}. How many {things} are left?
{a} bags hold {b} {things} each. {other} brings {c} more and takes {d} away. How many {things} are there now?

a*b x-c y+d
{name} has {a} boxes with {b} {things} each, gives away {c} {things} and gets {d} more. How many are there now?
There are {a} bags with {b} {things} each. {name} takes {c} away, and {other} brings {d} more. How many are there now?
How many {things} does {name} have if {he} has {a} boxes of {b} {things}, loses {c} and finds {d}?
{name} fills {a} boxes with {b} {things} each. {he} loses {c} and then gets {d} more. How many is that in all?
{name} had {a} boxes of {b} {things}. After that, {he} lost {c} and got {d} more. How many are there now?
{a} bags hold {b} {things} each. After {c} are lost, {other} finds {d}. How many {things} is that in all?

a+b x*c y-d
Each of {c} boxes holds {a} red and {b} blue {things}. {name} takes {d} {things} away. How many are left?
{name} puts {a} red and {b} blue {things} into each of {c} bags and gives away {d} {things}. How many are left?
How many {things} are left if {c} boxes hold {a} red and {b} blue {things} each and {d} {things} are lost?
{name} gets {a} {things} in the morning and {b} in the evening, for {c} days. {he} loses {d}. How many are left?
{c} children get {a} red and {b} blue {things} each and lose {d} of them in all. How many {things} are left?
On each of {c} days, {name} finds {a} {things} and then {b} more. {he} gives away {d}. How many are left?

a+b x/c y+d
{name} has {a} red and {b} blue {things}. {c} children share them equally and get {d} more each. How many has each?
{name} brings {a} {things} and {other} brings {b}. {c} children share them equally and find {d} more each. \
How many has each child?
How many {things} has each of {c} children if they share {a} red and {b} blue ones equally and get {d} more each?
{name} has {a} {things} and gets {b} more. {c} friends share them equally. Each gets {d} more. How many has each?
{name} had {a} {things}. After getting {b} more, {he} put them equally into {c} boxes with {d} more in each. \
How many are in each box?
There were {a} {things} in a bag. {name} put in {b}. {c} children share them equally and find {d} each. \
How many has each?

a-b x/c y-d
{name} has {a} {things} and loses {b}. {c} children share the others equally and lose {d} each. How many has each?
Of {a} {things}, {name} takes {b}. {c} children share the others equally and give away {d} each. How many has each?
How many {things} has each of {c} children left if they share {a} equally after {b} are lost and give away {d} each?
{name} gives away {b} of {a} {things}. {c} friends share the others equally. Each loses {d}. How many has each left?
{name} had {a} {things}. After losing {b}, {he} put the others equally into {c} boxes and took {d} out of each. \
How many are in each box?
{name} took {b} out of {a} {things} and filled {c} boxes equally with the others. Then {d} fell out of each box. \
How many are in each box?

a*b x/c y+d
{c} children share {a} boxes of {b} {things} equally. Then each child gets {d} more. How many does each child have?
{name} shares {a} bags of {b} {things} equally among {c} children and gives each {d} more. How many has each child?
How many {things} has each of {c} children if they share {a} boxes of {b} equally and get {d} more each?
{a} boxes hold {b} {things} each. {c} friends share them equally. Each friend finds {d} more. How many has each?
{name} had {a} boxes of {b} {things}. {c} children shared them equally and found {d} more each. How many has each?
{a} bags hold {b} {things} each. {c} children share them equally. Then each gets {d} more. How many has each?

a/b x*c y+d
{a} {things} are put equally into {b} boxes. {name} takes {c} of the boxes and finds {d} more {things}. \
How many {things} does {name} have?
The price of {b} {things} is {a} cents. {name} buys {c} and a card for {d} cents. How many cents does {he} pay?
How many cents do {c} {things} and a card for {d} cents cost if {b} {things} cost {a} cents?
{name} pays {a} cents for {b} {things}. {other} buys {c} {things} and a book for {d} cents. \
How many cents does {other} pay?
{name} buys {b} {things} for {a} cents. How many cents does {he} need for {c} {things} and a pen for {d}?
For {a} cents {name} gets {b} {things}. How many cents does {he} need for {c} {things} and a hat for {d}?
"""
