"""Letters of words, spelling, counting and alphabetical order."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.families.family import Choice, Family, listed, number_choice, shuffled
from lastresort.evals.suites.families.names import COLOURS, PEOPLE, THINGS, of_length, same_class
from lastresort.evals.suites.families.word_tables import WORDS

_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(level: int, random: Random) -> Choice:
    """The first letter, the last, or one in the middle of an invented name."""
    word = of_length(random, random.randint(6, 8))
    place = (0, len(word) - 1, random.randint(2, 4))[level - 1]
    name = "last" if level == 2 else _PLACES[place]
    right, others = word[place], same_class(word[place], last=level == 2)
    # At first letters that stand nowhere in the name; then those that do, as far as there are.
    random.shuffle(others)
    wrong = sorted(others, key=lambda letter: (letter in word) == (level > 1), reverse=True)[:3]
    shown = random.sample([right, *wrong], 4)
    question = (
        f'Which letter is the {name} letter of the name "{word.capitalize()}": {listed([x.upper() for x in shown])}?'
    )
    hardness = (1, 2, place + 1)[level - 1]
    return shuffled(f"{question} Answer with the letter.", right.upper(), [x.upper() for x in wrong], hardness, random)


def spelling(level: int, random: Random) -> Choice:
    """An invented name, so that it cannot be known; two letters are right or wrong independently."""
    word = of_length(random, (4, 7, 11)[level - 1])
    who, name = random.choice(PEOPLE), word.capitalize()
    question = f'{who} comes from the village "{name}". Spell the name of the village with hyphens between the letters.'
    first, second = random.sample(range(1, len(word)), 2)
    changed = {place: random.choice(same_class(word[place])) for place in (first, second)}
    spelt = []
    for places in ((), (first,), (second,), (first, second)):
        spelt.append("-".join(changed[i] if i in places else letter for i, letter in enumerate(word)).upper())
    return shuffled(question, spelt[0], spelt[1:], len(word), random)


def counting(level: int, random: Random) -> Choice:
    """Things of a list; how often one word stands in it; how often one letter stands in a sentence."""
    who = random.choice(PEOPLE)
    if level == 1:
        right = random.randint(3, 6)
        bought = random.sample(THINGS, right)
        question = f"{who} buys {listed(bought, 'and')}. How many kinds of things does {who} buy?"
        return number_choice(f"{question} Answer with the number.", right, (1, 2), right, random)
    if level == 2:
        right, colour = random.randint(3, 6), random.choice(COLOURS)
        others = random.choices([other for other in COLOURS if other != colour], k=random.randint(4, 6))
        cars = [colour] * right + others
        random.shuffle(cars)
        question = f"{who} counts the cars in the street: {', '.join(cars)}. How many of the cars are {colour}?"
        return number_choice(f"{question} Answer with the number.", right, (1, 2), len(cars), random)
    return _letters_counted(who, random)


def _letters_counted(who: str, random: Random) -> Choice:
    while True:
        text = f"{who} keeps the {' and the '.join(random.sample(THINGS, 3))} at home"
        frequent = [letter for letter in "aenorst" if 3 <= text.lower().count(letter) <= 6]
        if frequent:
            break
    letter = random.choice(frequent)
    question = f'How often does the letter "{letter}" stand in this sentence: "{text}"? Answer with the number.'
    return number_choice(question, text.lower().count(letter), (1, 2), len(text), random)


def sorting(level: int, random: Random) -> Choice:
    """Six words with different first letters, with the same one, or with the same three; the one between two others is asked.

    Not the first or the last of the options: that could be told without the question.
    """
    ordered = _to_sort(level, random)
    at = random.randrange(1, 5)
    low, right, high = ordered[at - 1], ordered[at], ordered[at + 1]
    wrong = random.sample([word for word in ordered if word not in (low, right, high)], 3)
    shown = random.sample([right, *wrong], 4)
    question = f'Which of these words stands between "{low}" and "{high}" in a dictionary: {listed(shown)}? Answer with the word.'
    return shuffled(question, right, wrong, (0, 1, 3)[level - 1], random)


def _to_sort(level: int, random: Random) -> list[str]:
    """Words that one knows, then invented ones."""
    if level == 1:
        while True:
            words = sorted(random.sample(WORDS, 6))
            if len({word[0] for word in words}) == 6:
                return words
    if level == 2:
        initial = random.choice(_LETTERS)
        return sorted(initial + second + of_length(random, 4) for second in random.sample(_LETTERS, 6))
    stem = of_length(random, 3)
    return sorted(stem + fourth + of_length(random, 3) for fourth in random.sample(_LETTERS, 6))


LETTERS = (
    Family("letters", letters, "places from the beginning of the word; the last letter counts as two"),
    Family("spelling", spelling, "letters of the word"),
    Family("counting", counting, "what is to be gone through: things, cars or letters"),
    Family("sorting", sorting, "letters that all the words share at their beginning"),
)
