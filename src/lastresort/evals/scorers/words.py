"""Text cut into words in any script, and text folded for comparison."""

from __future__ import annotations

import unicodedata

# Scripts written without spaces between words: each character counts as a word, as in multilingual SQuAD scorers.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_APOSTROPHES = "'’ʼ`"
_MINUS = "-−"
_DECIMAL = ".,"


def words(text: str) -> list[str]:
    """The words of `text` after NFKC and case folding; punctuation falls away.

    A number keeps its sign and its points and commas ("-3.14" is one word, "1-2" are two); an apostrophe inside a word
    vanishes; a character of a script without spaces is a word.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    found: list[str] = []
    current = ""
    for index, character in enumerate(folded):
        following = folded[index + 1 : index + 2]
        if _is_unspaced(character):
            found += [current, character]
            current = ""
        elif unicodedata.category(character)[0] in "LNM" or _belongs_to_number(character, current, following):
            current += "-" if character in _MINUS else character
        elif character not in _APOSTROPHES or not current:
            found.append(current)
            current = ""
    found.append(current)
    return [word for word in found if word]


def same_text(left: str, right: str) -> bool:
    """Equal up to outer whitespace and Unicode composition."""
    return unicodedata.normalize("NFC", left).strip() == unicodedata.normalize("NFC", right).strip()


def _belongs_to_number(character: str, current: str, following: str) -> bool:
    if not following.isdecimal():
        return False
    return (character in _MINUS and not current) or (character in _DECIMAL and current[-1:].isdecimal())


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= 0x0E00 and any(low <= code <= high for low, high in _UNSPACED) and character.isalnum()
