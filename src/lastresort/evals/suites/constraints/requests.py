"""What the constraints are put on: small requests over many subjects. None of them is a prompt for replay."""

from __future__ import annotations

REQUESTS = (
    "Say something about {subject}.",
    "Describe {subject}.",
    "What comes to mind when you hear of {subject}?",
    "Why do some people like {subject}?",
    "Recommend {subject} to a friend.",
    "Advertise {subject}.",
    "What can go wrong with {subject}?",
    "Make up a very short story about {subject}.",
    "What would you tell a visitor about {subject}?",
    "Write a note to a colleague about {subject}.",
    "What did your grandparents think of {subject}?",
    "Convince me of {subject}.",
    "How would a poet see {subject}?",
    "Welcome a new member to a club for {subject}.",
    "Which season suits {subject} best, and why?",
    "Answer a stranger who asks what {subject} cost.",
)

SUBJECTS = (
    "wool socks", "paper kites", "rain barrels", "garden gnomes", "travelling by bus", "cold soup", "door bells",
    "mushroom picking", "ice skating", "crossword puzzles", "hammocks", "train stations", "window boxes", "flea markets",
    "sailing boats", "walking sticks", "alarm clocks", "picnic baskets", "snow shovels", "board games", "attic rooms",
    "swimming in lakes", "wooden spoons", "street musicians", "balconies", "rubber boots", "apple cake", "postcards",
    "riding a tandem", "camp fires", "roof terraces", "school choirs", "old maps", "singing in the car", "porridge",
    "ferries", "bookmarks", "bowling", "night shifts", "house plants", "mountain huts", "vegetable soup", "cuckoo clocks",
    "moving house", "fountains", "sandcastles", "pocket knives", "early mornings", "tree houses", "market stalls",
    "sledges", "cardboard boxes", "wind chimes", "herb gardens", "lost keys", "second-hand clothes", "toy trains",
    "mending clothes", "blackberries", "rowing", "corner shops", "holiday jobs", "long queues", "fireflies",
    "paper lanterns", "cable cars", "dog shows", "leather belts", "rocking chairs", "sewing kits", "garden sheds",
    "snowmen", "tap dancing", "city walls", "hot chocolate", "bus shelters", "kitchen scales", "silver spoons",
    "wedding cakes", "horse stables", "bath towels", "butterfly nets", "rainy Sundays", "wooden toys", "sun hats",
    "tin soldiers", "village fairs", "weather vanes", "dining cars", "park benches", "stone bridges", "pillow fights",
    "hazelnuts", "brass bands", "water mills", "shoe repair", "haircuts", "pancakes", "bird tables", "night markets",
    "ski lifts", "tea towels", "pumpkin soup", "door mats", "drum lessons", "garden hoses", "reading lamps", "mountain goats",
    "oil lamps", "clothes pegs", "jigsaw puzzles", "school trips", "tent poles", "apple orchards", "boat trips",
    "family albums", "carpets", "suitcases", "sea shells", "barn dances", "pine cones", "winter coats", "vending machines",
    "honey cake", "salt mines", "frozen lakes", "shop windows", "grape juice",
)  # fmt: skip
