"""Capitals and continents. Facts as of 2025; countries whose capital is disputed or shared are left out."""

from __future__ import annotations

from random import Random

from lastresort.gate.suites.families.family import PEOPLE, ChoiceQuestion, Family, alike, one_of, shuffled

# country, capital, continent: by how often one hears of them.
COUNTRIES: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (
        ("France", "Paris", "Europe"), ("Germany", "Berlin", "Europe"), ("Italy", "Rome", "Europe"),
        ("Spain", "Madrid", "Europe"), ("Portugal", "Lisbon", "Europe"), ("Greece", "Athens", "Europe"),
        ("Poland", "Warsaw", "Europe"), ("Ireland", "Dublin", "Europe"), ("Austria", "Vienna", "Europe"),
        ("Sweden", "Stockholm", "Europe"), ("Norway", "Oslo", "Europe"), ("Hungary", "Budapest", "Europe"),
        ("Japan", "Tokyo", "Asia"), ("China", "Beijing", "Asia"), ("Iraq", "Baghdad", "Asia"),
        ("Thailand", "Bangkok", "Asia"), ("Iran", "Tehran", "Asia"), ("Vietnam", "Hanoi", "Asia"),
        ("Egypt", "Cairo", "Africa"), ("Kenya", "Nairobi", "Africa"), ("Morocco", "Rabat", "Africa"),
        ("Nigeria", "Abuja", "Africa"), ("Ethiopia", "Addis Ababa", "Africa"), ("Ghana", "Accra", "Africa"),
        ("Peru", "Lima", "South America"), ("Argentina", "Buenos Aires", "South America"),
        ("Colombia", "Bogota", "South America"), ("Chile", "Santiago", "South America"),
        ("Brazil", "Brasilia", "South America"), ("Venezuela", "Caracas", "South America"),
    ),
    (
        ("Finland", "Helsinki", "Europe"), ("Denmark", "Copenhagen", "Europe"), ("Romania", "Bucharest", "Europe"),
        ("Bulgaria", "Sofia", "Europe"), ("Croatia", "Zagreb", "Europe"), ("Serbia", "Belgrade", "Europe"),
        ("Iceland", "Reykjavik", "Europe"), ("Belgium", "Brussels", "Europe"), ("Latvia", "Riga", "Europe"),
        ("Slovakia", "Bratislava", "Europe"), ("Lithuania", "Vilnius", "Europe"), ("Estonia", "Tallinn", "Europe"),
        ("Jordan", "Amman", "Asia"), ("Syria", "Damascus", "Asia"), ("Lebanon", "Beirut", "Asia"),
        ("Nepal", "Kathmandu", "Asia"), ("Pakistan", "Islamabad", "Asia"), ("Mongolia", "Ulaanbaatar", "Asia"),
        ("Tunisia", "Tunis", "Africa"), ("Algeria", "Algiers", "Africa"), ("Senegal", "Dakar", "Africa"),
        ("Uganda", "Kampala", "Africa"), ("Sudan", "Khartoum", "Africa"), ("Zimbabwe", "Harare", "Africa"),
        ("Ecuador", "Quito", "South America"), ("Uruguay", "Montevideo", "South America"),
        ("Paraguay", "Asuncion", "South America"), ("Guyana", "Georgetown", "South America"),
        ("Angola", "Luanda", "Africa"), ("Somalia", "Mogadishu", "Africa"),
    ),
    (
        ("Moldova", "Chisinau", "Europe"), ("Albania", "Tirana", "Europe"), ("Slovenia", "Ljubljana", "Europe"),
        ("Malta", "Valletta", "Europe"), ("Liechtenstein", "Vaduz", "Europe"), ("Montenegro", "Podgorica", "Europe"),
        ("North Macedonia", "Skopje", "Europe"), ("Belarus", "Minsk", "Europe"), ("Laos", "Vientiane", "Asia"),
        ("Bhutan", "Thimphu", "Asia"), ("Tajikistan", "Dushanbe", "Asia"), ("Kyrgyzstan", "Bishkek", "Asia"),
        ("Uzbekistan", "Tashkent", "Asia"), ("Turkmenistan", "Ashgabat", "Asia"), ("Oman", "Muscat", "Asia"),
        ("Bahrain", "Manama", "Asia"), ("Brunei", "Bandar Seri Begawan", "Asia"), ("Qatar", "Doha", "Asia"),
        ("Botswana", "Gaborone", "Africa"), ("Rwanda", "Kigali", "Africa"), ("Zambia", "Lusaka", "Africa"),
        ("Malawi", "Lilongwe", "Africa"), ("Gabon", "Libreville", "Africa"), ("Togo", "Lome", "Africa"),
        ("Niger", "Niamey", "Africa"), ("Eritrea", "Asmara", "Africa"), ("Namibia", "Windhoek", "Africa"),
        ("Suriname", "Paramaribo", "South America"), ("Mauritania", "Nouakchott", "Africa"), ("Mali", "Bamako", "Africa"),
    ),
)  # fmt: skip


def capitals(level: int, random: Random) -> ChoiceQuestion:
    countries = alike(random, COUNTRIES[level - 1], lambda country: country[1])
    country, right, _ = countries[0]
    does = random.choice(("lives in", "flies to", "writes to a friend in", "works in", "was born in", "dreams of"))
    question = f"{random.choice(PEOPLE)} {does} the capital of {country}. Which city is that?"
    return shuffled(question, right, [city for _, city, _ in countries[1:]], level, random, country)


def continents(level: int, random: Random) -> ChoiceQuestion:
    """Of four countries on four continents, the one on a named continent."""
    while True:
        countries = alike(random, COUNTRIES[level - 1], lambda country: country[0], n=4, spread=4)
        if len({continent for _, _, continent in countries}) >= 3:
            right, _, continent = countries[0]
            if [country[2] for country in countries].count(continent) == 1:
                break
    shown = random.sample([country[0] for country in countries], 4)
    question = f"Which of these countries lies in {continent}: {one_of(shown)}? Answer with the name of the country."
    return shuffled(question, right, [country[0] for country in countries[1:]], level, random, right)


GEOGRAPHY = (
    Family("capitals", capitals, "how seldom one hears of the country, in three classes"),
    Family("continents", continents, "how seldom one hears of the countries, in three classes"),
)
