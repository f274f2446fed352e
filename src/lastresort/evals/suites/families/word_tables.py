"""Words by kind, opposites, and the list of all of them. Each word stands under one kind only."""

from __future__ import annotations

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
