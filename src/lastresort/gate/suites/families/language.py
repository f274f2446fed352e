"""Agreement of subject and verb. The options are whole sentences.

Words by kind, opposites, and the list of all of them. Each word stands under one kind only.

Letters of words, spelling, counting and alphabetical order.

Meanings of words: kinds, the odd one out, opposites.
"""

from __future__ import annotations

from random import Random

from lastresort.gate.suites.families.family import (
    COLOURS,
    PEOPLE,
    THINGS,
    TRIES,
    ChoiceQuestion,
    Family,
    alike,
    number_choice,
    of_length,
    one_of,
    same_class,
    shuffled,
)
from lastresort.report.words.wording import listed

# By realm: kinds of one realm are near to each other, kinds of two are far apart.
KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "animal": {
        "bird": ("sparrow", "pigeon", "eagle", "robin", "swallow", "goose", "parrot", "raven", "heron", "falcon", "pelican"),
        "fish": ("salmon", "trout", "herring", "shark", "tuna", "sardine", "haddock", "carp", "perch", "mackerel"),
        "insect": ("beetle", "mosquito", "butterfly", "cricket", "wasp", "hornet", "termite", "moth", "dragonfly", "locust"),
        "mammal": ("horse", "rabbit", "elephant", "donkey", "leopard", "giraffe", "badger", "camel", "otter", "squirrel"),
    },
    "food": {
        "fruit": ("apple", "banana", "cherry", "grape", "peach", "apricot", "mango", "lemon", "melon", "raspberry"),
        "vegetable": ("carrot", "cabbage", "spinach", "onion", "leek", "potato", "celery", "lettuce", "turnip", "beetroot"),
        "drink": ("coffee", "tea", "juice", "lemonade", "beer", "wine", "cider", "cocoa", "whisky", "milk"),
        "spice": ("cardamom", "cinnamon", "ginger", "saffron", "nutmeg", "vanilla", "paprika", "cumin", "turmeric", "clove"),
    },
    "object": {
        "tool": ("hammer", "saw", "chisel", "pliers", "wrench", "shovel", "drill", "axe", "screwdriver", "rake"),
        "vehicle": ("bicycle", "lorry", "tram", "bus", "train", "tractor", "motorcycle", "taxi", "van", "scooter"),
        "instrument": ("violin", "trumpet", "piano", "flute", "drum", "guitar", "clarinet", "cello", "harp", "trombone"),
        "garment": ("shirt", "trousers", "jacket", "sock", "skirt", "sweater", "glove", "scarf", "coat", "blouse"),
    },
    "world": {
        "colour": ("red", "green", "yellow", "purple", "brown", "beige", "crimson", "grey", "violet", "turquoise"),
        "metal": ("iron", "copper", "cobalt", "steel", "zinc", "tin", "lead", "nickel", "aluminium", "mercury"),
        "job": ("baker", "lawyer", "teacher", "doctor", "plumber", "farmer", "carpenter", "nurse", "tailor", "gardener"),
        "room": ("kitchen", "bedroom", "bathroom", "cellar", "attic", "hallway", "pantry", "nursery", "lounge", "library"),
    },
}  # fmt: skip

# Everyday ones, less common ones, rare ones.
OPPOSITES: tuple[tuple[tuple[str, str], ...], ...] = (
    (
        ("hot", "cold"), ("big", "small"), ("old", "young"), ("fast", "slow"), ("long", "short"), ("wet", "dry"),
        ("high", "low"), ("hard", "soft"), ("dark", "light"), ("full", "empty"), ("rich", "poor"), ("good", "bad"),
        ("early", "late"), ("happy", "sad"), ("clean", "dirty"), ("open", "closed"), ("thick", "thin"), ("loud", "quiet"),
        ("near", "far"), ("strong", "weak"), ("right", "wrong"), ("up", "down"), ("left", "right"), ("first", "last"),
        ("wide", "narrow"), ("easy", "difficult"), ("cheap", "expensive"), ("day", "night"), ("true", "false"),
    ),
    (
        ("deep", "shallow"), ("rough", "smooth"), ("brave", "cowardly"), ("sharp", "blunt"), ("guilty", "innocent"),
        ("public", "private"), ("ancient", "modern"), ("arrive", "depart"), ("accept", "refuse"), ("increase", "decrease"),
        ("generous", "mean"), ("rare", "common"), ("victory", "defeat"), ("borrow", "lend"), ("attack", "defend"),
        ("above", "below"), ("inside", "outside"), ("polite", "rude"), ("careful", "careless"), ("permanent", "temporary"),
        ("simple", "complicated"), ("success", "failure"), ("remember", "forget"), ("wild", "tame"), ("tight", "loose"),
        ("artificial", "natural"), ("knowledge", "ignorance"), ("laugh", "cry"), ("friend", "enemy"),
    ),
    (
        ("abundant", "scarce"), ("verbose", "concise"), ("humble", "arrogant"), ("opaque", "transparent"),
        ("reluctant", "eager"), ("hostile", "friendly"), ("condemn", "praise"), ("expand", "contract"),
        ("conceal", "reveal"), ("prudent", "reckless"), ("barren", "fertile"), ("obscure", "famous"),
        ("frugal", "wasteful"), ("rigid", "flexible"), ("zenith", "nadir"), ("vertical", "horizontal"),
        ("ascend", "descend"), ("voluntary", "compulsory"), ("optimist", "pessimist"), ("convex", "concave"),
        ("diligent", "lazy"), ("sincere", "deceitful"), ("novice", "expert"), ("tranquil", "turbulent"),
        ("acquit", "convict"), ("hinder", "help"), ("lethargic", "energetic"), ("sparse", "dense"), ("benign", "malignant"),
    ),
)  # fmt: skip

WORDS: tuple[str, ...] = tuple(word for kinds in KINDS.values() for words in kinds.values() for word in words)


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(level: int, random: Random) -> ChoiceQuestion:
    """The first letter, the last, or one in the middle of an invented name."""
    word = of_length(random, random.randint(6, 8))
    place = (0, len(word) - 1, random.randint(2, 4))[level - 1]
    name = "last" if level == 2 else _ORDINALS[place]
    right, others = word[place], same_class(word[place], last=level == 2)
    # At first letters that stand nowhere in the name; then those that do, as far as there are.
    random.shuffle(others)
    wrong = sorted(others, key=lambda letter: (letter in word) == (level > 1), reverse=True)[:3]
    shown = random.sample([right, *wrong], 4)
    question = (
        f'Which letter is the {name} letter of the name "{word.capitalize()}": {one_of([x.upper() for x in shown])}?'
    )
    hardness = (1, 2, place + 1)[level - 1]
    return shuffled(f"{question} Answer with the letter.", right.upper(), [x.upper() for x in wrong], hardness, random)


def spelling(level: int, random: Random) -> ChoiceQuestion:
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


def counting(level: int, random: Random) -> ChoiceQuestion:
    """Things of a list; how often one word stands in it; how often one letter stands in a sentence."""
    who = random.choice(PEOPLE)
    if level == 1:
        right = random.randint(3, 6)
        bought = random.sample(THINGS, right)
        question = f"{who} buys {listed(bought)}. How many kinds of things does {who} buy?"
        return number_choice(f"{question} Answer with the number.", right, (1, 2), right, random)
    if level == 2:
        right, colour = random.randint(3, 6), random.choice(COLOURS)
        others = random.choices([other for other in COLOURS if other != colour], k=random.randint(4, 6))
        cars = [colour] * right + others
        random.shuffle(cars)
        question = f"{who} counts the cars in the street: {', '.join(cars)}. How many of the cars are {colour}?"
        return number_choice(f"{question} Answer with the number.", right, (1, 2), len(cars), random)
    return _letters_counted(who, random)


def _letters_counted(who: str, random: Random) -> ChoiceQuestion:
    while True:
        text = f"{who} keeps the {' and the '.join(random.sample(THINGS, 3))} at home"
        frequent = [letter for letter in "aenorst" if 3 <= text.lower().count(letter) <= 6]
        if frequent:
            break
    letter = random.choice(frequent)
    question = f'How often does the letter "{letter}" stand in this sentence: "{text}"? Answer with the number.'
    return number_choice(question, text.lower().count(letter), (1, 2), len(text), random)


def sorting(level: int, random: Random) -> ChoiceQuestion:
    """Six words with different first letters, with the same one, or with the same three; the one between two others is asked.

    Not the first or the last of the options: that could be told without the question.
    """
    ordered = _to_sort(level, random)
    at = random.randrange(1, 5)
    low, right, high = ordered[at - 1], ordered[at], ordered[at + 1]
    wrong = random.sample([word for word in ordered if word not in (low, right, high)], 3)
    shown = random.sample([right, *wrong], 4)
    question = f'Which of these words stands between "{low}" and "{high}" in a dictionary: {one_of(shown)}? Answer with the word.'
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


_SPREAD = 2


def kinds(level: int, random: Random) -> ChoiceQuestion:
    """A word of a named kind among words of other realms, of the same realm, and with the kind known by an example only."""
    realm = random.choice(list(KINDS))
    groups = KINDS[realm] if level > 1 else {random.choice(list(of)): () for of in KINDS.values()}
    table = {kind: words for of in KINDS.values() for kind, words in of.items()}
    words, names = _one_of_each({kind: table[kind] for kind in groups}, random)
    asked = random.randrange(4)
    if level == 3:
        example = random.choice([word for word in table[names[asked]] if word not in words])
        question = f'Which of these is the same kind of thing as "{example}": {one_of(words)}? Answer with the word.'
    else:
        question = f"Which of these words names a kind of {names[asked]}: {one_of(words)}? Answer with the word."
    return shuffled(
        question, words[asked], [word for word in words if word != words[asked]], level, random, words[asked]
    )


def _one_of_each(groups: dict[str, tuple[str, ...]], random: Random) -> tuple[list[str], list[str]]:
    """A word of each group, of similar length, and the names of the groups, in one random order."""
    names = list(groups)
    for _ in range(TRIES):
        random.shuffle(names)
        words = [random.choice(groups[name]) for name in names]
        if max(map(len, words)) - min(map(len, words)) <= _SPREAD:
            break
    return words, names


def odd_one_out(level: int, random: Random) -> ChoiceQuestion:
    """Three words of one kind and one of another: of another realm with the kind named, without, and of the same realm."""
    while True:
        realm, other_realm = random.sample(list(KINDS), 2)
        kind = random.choice(list(KINDS[realm]))
        others = (
            KINDS[other_realm] if level < 3 else {name: words for name, words in KINDS[realm].items() if name != kind}
        )
        words = [*random.sample(KINDS[realm][kind], 3), random.choice(random.choice(list(others.values())))]
        if max(map(len, words)) - min(map(len, words)) <= _SPREAD:
            break
    odd, shown = words[3], random.sample(words, 4)
    asked = f"names no kind of {kind}" if level == 1 else "does not belong with the others"
    question = f"Which of these words {asked}: {one_of(sorted(shown))}? Answer with the word."
    return shuffled(question, odd, words[:3], level, random, odd)


def opposites(level: int, random: Random) -> ChoiceQuestion:
    pairs = alike(random, OPPOSITES[level - 1], lambda pair: pair[1])
    (word, right), others = pairs[0], [pair[1] for pair in pairs[1:]]
    shown = random.sample([right, *others], 4)
    question = f'Which word means the opposite of "{word}": {one_of(shown)}? Answer with the word.'
    return shuffled(question, right, others, len(word), random, word)


WORDS_FAMILIES = (
    Family("kinds", kinds, "1: other realms, 2: the same realm, 3: the kind is not named"),
    Family("odd_one_out", odd_one_out, "1: the kind is named, 2: it is not, 3: nor is the odd one of another realm"),
    Family("opposites", opposites, "letters of the word: rarer words are longer"),
)


_NOUNS = (
    ("dog", "dogs"), ("child", "children"), ("teacher", "teachers"), ("horse", "horses"), ("doctor", "doctors"),
    ("farmer", "farmers"), ("woman", "women"), ("man", "men"), ("singer", "singers"), ("sister", "sisters"),
    ("neighbour", "neighbours"), ("cat", "cats"), ("friend", "friends"), ("pilot", "pilots"), ("guest", "guests"),
    ("worker", "workers"), ("student", "students"), ("driver", "drivers"), ("bird", "birds"), ("mouse", "mice"),
)  # fmt: skip
_VERBS = (
    ("is", "are"), ("was", "were"), ("has been", "have been"), ("works", "work"), ("sleeps", "sleep"), ("waits", "wait"),
    ("lives", "live"), ("stands", "stand"), ("stays", "stay"), ("sits", "sit"),
)  # fmt: skip
_PLACES = (
    "in the garden", "near the river", "at the station", "behind the house", "in the kitchen", "by the lake", "on the bridge",
    "at the market", "in the old mill", "near the church", "in the next room", "at the gate", "on the beach", "in the village",
)  # fmt: skip
_BETWEEN = ("near", "behind", "beside", "with", "opposite", "in front of")


def agreement(level: int, random: Random) -> ChoiceQuestion:
    """Nothing between subject and verb; a noun of the other number; two of them and a clause."""
    number = random.randrange(2)
    nouns = random.sample(_NOUNS, 3)
    subject = f"The {nouns[0][number]}"
    if level > 1:
        subject += f" {random.choice(_BETWEEN)} the {nouns[1][1 - number]}"
    if level > 2:
        subject += f" that the {nouns[2][1 - number]} {random.choice(('knew', 'saw', 'called', 'liked', 'heard'))}"
    verbs, place = random.choice(_VERBS), random.choice(_PLACES)
    right, wrong = (f"{subject} {verbs[form]} {place}." for form in (number, 1 - number))
    shown = random.sample([right, wrong], 2)
    question = (
        f"Which of these two sentences is correct English? {shown[0]} / {shown[1]} Answer with the correct sentence."
    )
    return shuffled(question, right, [wrong], level - 1, random, f"{subject} {verbs[number]}")


GRAMMAR = (Family("agreement", agreement, "nouns of the other number between subject and verb", options=2),)
