"""Generated instructions and questions: what stands in for the corpora flan and knowledgeqa.

Instructions are carried out by code, so their answers are right; answers to questions come from tables that Python
itself holds (Unicode, HTTP, HTML, MIME types, the calendar) and from the first sentences of docstrings.
"""

import calendar
import html.entities
import http
import mimetypes
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random

Pair = tuple[str, str]  # what is asked, and the answer


def make_instruction(random: Random, sentences: Sequence[str]) -> Pair:
    """One instruction over one of `sentences`, carried out."""
    return random.choice(INSTRUCTIONS)(random, random.choice(sentences))


def make_question(random: Random, summaries: Sequence[tuple[str, str]]) -> Pair:
    """One question about a fact; `summaries` are (qualified name, first sentence of its documentation)."""
    if random.random() < 0.5:
        where, sentence = random.choice(summaries)
        asked = random.choice((
            "What is {} for?",
            "What does the documentation of Python say about {}?",
            "In the standard library of Python, what is the purpose of {}?",
        ))  # fmt: skip
        return asked.format(where), sentence
    return random.choice(QUESTIONS)(random)


def _sort(random: Random, sentence: str) -> Pair:
    words = sorted({word.strip(".,:;()'\"`*").lower() for word in sentence.split()} - {""})
    shuffled = random.sample(words, len(words))
    return f"Put these words into alphabetical order: {', '.join(shuffled)}", ", ".join(words)


def _count(random: Random, sentence: str) -> Pair:
    return f"How many words does the following sentence have?\n\n{sentence}", str(len(sentence.split()))


def _first_letters(random: Random, sentence: str) -> Pair:
    words = sentence.split()
    return (
        f'Take the first letter of each word in "{sentence}" and join them.',
        "".join(word[0] for word in words),
    )


def _shout(random: Random, sentence: str) -> Pair:
    return f"Write this sentence in capital letters.\n{sentence}", sentence.upper()


def _gap(random: Random, sentence: str) -> Pair:
    words = sentence.split()
    place = random.randrange(len(words))
    options = sorted({words[place], *random.sample(words, min(3, len(words)))})
    gapped = " ".join([*words[:place], "____", *words[place + 1 :]])
    shown = "\n".join(f"- {option}" for option in options)
    return f"Fill in the missing word.\n\n{gapped}\n\nOPTIONS:\n{shown}", words[place]


def _contains(random: Random, sentence: str) -> Pair:
    letter = random.choice("aeioubcdfgz")
    answer = "yes" if letter in sentence.lower() else "no"
    return f'Does the sentence below contain the letter "{letter}"? Answer yes or no.\n\nSentence: {sentence}', answer


def _longest(random: Random, sentence: str) -> Pair:
    words = [word.strip(".,:;()'\"`*") for word in sentence.split()]
    return f"Read the sentence and name its longest word.\n\n{sentence}", max(words, key=len)


def _restore(random: Random, sentence: str) -> Pair:
    words = sentence.split()
    return f"Bring these words into an order that makes sense: {' '.join(random.sample(words, len(words)))}", sentence


def _dates(random: Random, sentence: str) -> Pair:
    day = date(1900, 1, 1) + timedelta(days=random.randrange(60_000))
    days = random.randint(2, 60)
    return (
        f"Which date is {days} days after {day:%d %B %Y}? Reason step by step.",
        f"{day:%B} {day.year} has {calendar.monthrange(day.year, day.month)[1]} days. Counting {days} days on from day "
        f"{day.day} of {day:%B} gives {day + timedelta(days=days):%d %B %Y}.",
    )


def _weekday(random: Random) -> Pair:
    day = date(1800, 1, 1) + timedelta(days=random.randrange(90_000))
    return f"On which day of the week did {day:%d %B %Y} fall?", f"It was a {day:%A}."


def _leap(random: Random) -> Pair:
    year = random.randint(1600, 2400)
    answer = "Yes" if calendar.isleap(year) else "No"
    days = 366 if calendar.isleap(year) else 365
    return f"Was or will {year} be a leap year?", f"{answer}, the year {year} has {days} days."


def _character(random: Random) -> Pair:
    while not (name := unicodedata.name(chr(code := random.randrange(0x20, 0x2800)), "")):
        pass
    if random.random() < 0.5:
        return f"What is the Unicode name of the character {chr(code)}?", name.capitalize()
    return f"Which code point has the character named {name.lower()}?", f"U+{code:04X}"


def _status(random: Random) -> Pair:
    status = random.choice(list(http.HTTPStatus))
    return f"What does the HTTP status code {status.value} mean?", f"{status.phrase}. {status.description}".strip()


def _entity(random: Random) -> Pair:
    name = random.choice(sorted(html.entities.name2codepoint))
    character = chr(html.entities.name2codepoint[name])
    meaning = unicodedata.name(character, "an unnamed character").lower()
    return f"Which character does the HTML entity &{name}; stand for?", f"{character}, {meaning}"


def _mime(random: Random) -> Pair:
    ending, kind = random.choice(sorted(mimetypes.MimeTypes(filenames=()).types_map[1].items()))
    return f"Which MIME type belongs to files that end in {ending}?", kind


def _number(random: Random) -> Pair:
    number = random.randint(10, 4000)
    base, shown = random.choice((("binary", f"{number:b}"), ("hexadecimal", f"{number:X}"), ("octal", f"{number:o}")))
    return f"How is the number {number} written in {base}?", shown


INSTRUCTIONS: Sequence[Callable[[Random, str], Pair]] = (
    _sort, _count, _first_letters, _shout, _gap, _contains, _longest, _restore, _dates,
)  # fmt: skip
QUESTIONS: Sequence[Callable[[Random], Pair]] = (_weekday, _leap, _character, _status, _entity, _mime, _number)
