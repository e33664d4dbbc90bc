"""Generated word problems with worked solutions: what stands in for the math corpus.

`make_problem(random)` gives one (problem, solution). Numbers, names and wording vary; every step of the solution is
computed, so it is right. Sentences end in the answer, as in MathInstruct.
"""

import math
from random import Random

PEOPLE = (
    "Ada", "Ben", "Chloe", "Dev", "Elif", "Femi", "Grace", "Hiro", "Ines", "Jonas", "Kofi", "Lena", "Mira", "Noor",
    "Omar", "Petra", "Quinn", "Rosa", "Sam", "Tara",
)  # fmt: skip
THINGS = (
    "apples", "books", "candles", "pencils", "marbles", "stickers", "oranges", "shells", "stamps", "buttons", "coins",
    "cards", "beads", "tiles",
)  # fmt: skip
PLACES = ("at the market", "in the library", "at school", "on the farm", "in the workshop", "at the fair", "at home")
SHOPS = ("a bakery", "a bookshop", "a hardware store", "a garden centre", "a stationer's", "a toy shop")

Problem = tuple[str, str]


def make_problem(random: Random) -> Problem:
    """One problem and its worked solution."""
    return random.choice(KINDS)(random)


def _shopping(random: Random) -> Problem:
    who, thing, shop = random.choice(PEOPLE), random.choice(THINGS), random.choice(SHOPS)
    count, price = random.randint(3, 24), random.randint(2, 15)
    paid = (count * price // 50 + 1) * 50
    problem = (
        f"{who} goes to {shop} and buys {count} {thing} at ${price} each. "
        f"{who} pays with ${paid}. How much change should {who} get?"
    )
    solution = (
        f"The {count} {thing} cost {count} × {price} = {count * price} dollars.\n"
        f"{who} pays {paid} dollars, so the change is {paid} - {count * price} = {paid - count * price} dollars.\n"
        f"The answer is {paid - count * price}."
    )
    return problem, solution


def _sharing(random: Random) -> Problem:
    (who, other), thing = random.sample(PEOPLE, 2), random.choice(THINGS)
    people, each, left = random.randint(3, 12), random.randint(4, 30), random.randint(0, 2)
    total = people * each + left
    problem = (
        f"{who} has {total} {thing} and shares them equally among {people} friends, one of them {other}. "
        f"How many {thing} does {other} get, and how many are left over?"
    )
    solution = (
        f"Divide: {total} = {people} × {each} + {left}.\n"
        f"So each friend gets {each} {thing}, and {left} are left over.\nThe answer is {each} and {left}."
    )
    return problem, solution


def _journey(random: Random) -> Problem:
    who, speed, hours = random.choice(PEOPLE), random.randrange(30, 120, 5), random.randint(2, 9)
    rest = random.randint(1, 4) * 15
    problem = (
        f"{who} drives {speed * hours} km at a steady {speed} km per hour and rests for {rest} minutes on the way. "
        "How many minutes does the whole journey take?"
    )
    solution = (
        f"Driving takes {speed * hours} ÷ {speed} = {hours} hours, which is {hours} × 60 = {hours * 60} minutes.\n"
        f"With the rest this is {hours * 60} + {rest} = {hours * 60 + rest} minutes.\n"
        f"The answer is {hours * 60 + rest}."
    )
    return problem, solution


def _percent(random: Random) -> Problem:
    price, percent = random.randrange(20, 900, 20), random.choice((5, 10, 15, 20, 25, 30, 40, 50))
    shop, change = random.choice(SHOPS), random.choice(("reduces", "raises"))
    part = price * percent / 100
    new, sign = (price - part, "-") if change == "reduces" else (price + part, "+")
    problem = f"{shop.capitalize()} {change} the price of an item from ${price} by {percent}%. What is the new price?"
    solution = (
        f"{percent}% of {price} is {price} × {percent} / 100 = {part:g}.\n"
        f"The new price is {price} {sign} {part:g} = {new:g} dollars.\nThe answer is {new:g}."
    )
    return problem, solution


def _equation(random: Random) -> Problem:
    a, x, b = random.randint(2, 12), random.randint(-15, 20), random.randint(-30, 40)
    name = random.choice("xyzntk")
    right = a * x + b
    sign, back = ("+", "Subtract") if b >= 0 else ("-", "Add")
    problem = f"Solve for ${name}$: ${a}{name} {sign} {abs(b)} = {right}$."
    solution = (
        f"{back} {abs(b)} on both sides: ${a}{name} = {right - b}$.\n"
        f"Divide both sides by {a}: ${name} = {x}$.\nThe answer is ${name} = {x}$."
    )
    return problem, solution


def _quadratic(random: Random) -> Problem:
    p, q = sorted((random.randint(-9, 9), random.randint(-9, 9)))
    b, c = -(p + q), p * q
    problem = f"Find all real solutions of $x^2 {b:+}x {c:+} = 0$."
    roots = f"$x = {p}$" if p == q else f"$x = {p}$ and $x = {q}$"
    solution = (
        f"We look for two numbers whose sum is {p + q} and whose product is {c}: these are {p} and {q}.\n"
        f"So $x^2 {b:+}x {c:+} = (x {-p:+})(x {-q:+})$, which is zero for {roots}.\nThe answer is {roots}."
    )
    return problem, solution


def _rectangle(random: Random) -> Problem:
    width, height = random.randint(3, 40), random.randint(3, 40)
    who, place = random.choice(PEOPLE), random.choice(("garden", "room", "field", "courtyard"))
    problem = (
        f"{who}'s {place} is a rectangle with an area of {width * height} square metres and is {width} metres wide. "
        "How long is a fence around it?"
    )
    solution = (
        f"The other side is {width * height} ÷ {width} = {height} metres.\n"
        f"The perimeter is 2 × ({width} + {height}) = 2 × {width + height} = {2 * (width + height)} metres.\n"
        f"The answer is {2 * (width + height)}."
    )
    return problem, solution


def _ages(random: Random) -> Problem:
    who, other = random.sample(PEOPLE, 2)
    young, factor, years = random.randint(4, 15), random.randint(2, 4), random.randint(2, 12)
    old = young * factor
    problem = (
        f"{who} is {factor} times as old as {other}. Together they are {old + young} years old. "
        f"How old will {who} be in {years} years?"
    )
    solution = (
        f"Let {other} be $a$ years old. Then $a + {factor}a = {old + young}$, so ${factor + 1}a = {old + young}$ "
        f"and $a = {young}$.\n{who} is {factor} × {young} = {old} years old now, and in {years} years "
        f"{old} + {years} = {old + years}.\nThe answer is {old + years}."
    )
    return problem, solution


def _divisors(random: Random) -> Problem:
    common = random.randint(2, 15)
    a, b = common * random.randint(2, 18), common * random.randint(2, 18)
    problem = f"What is the greatest common divisor of {a} and {b}, and what is their least common multiple?"
    steps, x, y = [], max(a, b), min(a, b)
    while y:
        steps.append(f"{x} = {x // y} × {y} + {x % y}")
        x, y = y, x % y
    solution = (
        "By Euclid's algorithm:\n" + "\n".join(steps) + f"\nThe last divisor is {x}, so gcd({a}, {b}) = {x}.\n"
        f"lcm({a}, {b}) = {a} × {b} / {x} = {math.lcm(a, b)}.\nThe answer is {x} and {math.lcm(a, b)}."
    )
    return problem, solution


def _probability(random: Random) -> Problem:
    red, blue, green = (random.randint(2, 12) for _ in range(3))
    total, who = red + blue + green, random.choice(PEOPLE)
    gcd = math.gcd(red * (red - 1), total * (total - 1))
    top, bottom = red * (red - 1) // gcd, total * (total - 1) // gcd
    problem = (
        f"A bag holds {red} red, {blue} blue and {green} green marbles. {who} draws two without looking and without "
        "putting the first one back. What is the probability that both are red?"
    )
    solution = (
        f"There are {red} + {blue} + {green} = {total} marbles. The first is red with probability {red}/{total}, "
        f"and then the second with {red - 1}/{total - 1}.\n"
        f"The product is {red * (red - 1)}/{total * (total - 1)} = {top}/{bottom}.\nThe answer is {top}/{bottom}."
    )
    return problem, solution


def _series(random: Random) -> Problem:
    first, difference, number = random.randint(1, 30), random.randint(2, 12), random.randint(8, 40)
    last = first + (number - 1) * difference
    total = number * (first + last) // 2
    who, thing = random.choice(PEOPLE), random.choice(THINGS)
    problem = (
        f"{who} collects {first} {thing} on the first day and {difference} more each day than on the day before. "
        f"How many {thing} are there after {number} days?"
    )
    solution = (
        f"On day {number} it is {first} + {number - 1} × {difference} = {last} {thing}.\n"
        f"The sum of the arithmetic series is {number} × ({first} + {last}) / 2 = {total}.\nThe answer is {total}."
    )
    return problem, solution


def _mixture(random: Random) -> Problem:
    (who, other), thing, place = random.sample(PEOPLE, 2), random.choice(THINGS), random.choice(PLACES)
    mine, more, given = random.randint(10, 90), random.randint(3, 40), random.randint(1, 9)
    problem = (
        f"{who} counts {mine} {thing} {place}. {other} has {more} more than {who}, and then gives {given} to {who}. "
        f"How many {thing} does each of them have in the end?"
    )
    solution = (
        f"{other} begins with {mine} + {more} = {mine + more}, "
        f"and keeps {mine + more} - {given} = {mine + more - given}.\n"
        f"{who} then has {mine} + {given} = {mine + given}.\n"
        f"The answer is {mine + given} for {who} and {mine + more - given} for {other}."
    )
    return problem, solution


KINDS = (
    _shopping, _sharing, _journey, _percent, _equation, _quadratic, _rectangle, _ages, _divisors, _probability, _series,
    _mixture,
)  # fmt: skip
