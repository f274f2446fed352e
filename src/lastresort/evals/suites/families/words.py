"""Meanings of words: kinds, the odd one out, opposites."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.families.family import TRIES, Choice, Family, alike, listed, shuffled
from lastresort.evals.suites.families.word_tables import KINDS, OPPOSITES

_SPREAD = 2


def kinds(level: int, random: Random) -> Choice:
    """A word of a named kind among words of other realms, of the same realm, and with the kind known by an example only."""
    realm = random.choice(list(KINDS))
    groups = KINDS[realm] if level > 1 else {random.choice(list(of)): () for of in KINDS.values()}
    table = {kind: words for of in KINDS.values() for kind, words in of.items()}
    words, names = _one_of_each({kind: table[kind] for kind in groups}, random)
    asked = random.randrange(4)
    if level == 3:
        example = random.choice([word for word in table[names[asked]] if word not in words])
        question = f'Which of these is the same kind of thing as "{example}": {listed(words)}? Answer with the word.'
    else:
        question = f"Which of these words names a kind of {names[asked]}: {listed(words)}? Answer with the word."
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


def odd_one_out(level: int, random: Random) -> Choice:
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
    question = f"Which of these words {asked}: {listed(sorted(shown))}? Answer with the word."
    return shuffled(question, odd, words[:3], level, random, odd)


def opposites(level: int, random: Random) -> Choice:
    pairs = alike(random, OPPOSITES[level - 1], lambda pair: pair[1])
    (word, right), others = pairs[0], [pair[1] for pair in pairs[1:]]
    shown = random.sample([right, *others], 4)
    question = f'Which word means the opposite of "{word}": {listed(shown)}? Answer with the word.'
    return shuffled(question, right, others, len(word), random, word)


WORDS_FAMILIES = (
    Family("kinds", kinds, "1: other realms, 2: the same realm, 3: the kind is not named"),
    Family("odd_one_out", odd_one_out, "1: the kind is named, 2: it is not, 3: nor is the odd one of another realm"),
    Family("opposites", opposites, "letters of the word: rarer words are longer"),
)
