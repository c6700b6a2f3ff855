"""The words of the small world that the embedded corpus speaks of, and what they have to do with each other."""


def words(text: str) -> list[str]:
    """The words of a list that is written as one text."""
    return text.split()


FEMALE = words("Lily Anna Mia Emma Rosa Sara Nina Ella Kate Lucy Jane Zoe")
MALE = words("Tom Ben Max Sam Leo Jack Finn Paul Hugo Adam Karl Noah")
KINDS = {
    "animal": words("cat dog bird fish horse frog mouse duck goat"),
    "food": words("apple bread cake soup cheese plum egg pie nut"),
    "tool": words("hammer rope lamp brush knife key bucket spoon axe"),
    "toy": words("ball doll kite drum puzzle robot train boat block"),
}
KIND = {noun: kind for kind, nouns in KINDS.items() for noun in nouns}
NOUNS = [*KIND]
COLOURS = words("red blue green black white yellow brown pink")
INDOORS = words("kitchen school shop barn library bedroom cellar hall")
OUTDOORS = words("park garden forest field street beach meadow yard")
PLACES = [*INDOORS, *OUTDOORS]
TIMES = {"morning": "in the morning", "noon": "at noon", "evening": "in the evening", "night": "at night"}
PASTS = {
    "find": "found",
    "lose": "lost",
    "hide": "hid",
    "take": "took",
    "hold": "held",
    "wash": "washed",
    "paint": "painted",
    "drop": "dropped",
    "carry": "carried",
    "buy": "bought",
}
PARTICIPLES = {"hide": "hidden", "take": "taken"}  # of the others it is the past
FEELINGS = {  # what follows from a deed, and why it was done: "{she}" stands for the pronoun
    "find": ("happy", "{she} had looked for it"),
    "lose": ("sad", "{she} was careless"),
    "hide": ("afraid", "{she} had a secret"),
    "take": ("happy", "{she} needed it"),
    "hold": ("calm", "{she} liked it"),
    "wash": ("calm", "it was dirty"),
    "paint": ("proud", "it was old"),
    "drop": ("angry", "it was heavy"),
    "carry": ("tired", "it was far from home"),
    "buy": ("proud", "it was cheap"),
}
SUBJECTS = words("soup room song story show trip game film lesson party")
GOOD = words("good great lovely nice fine wonderful")
BAD = words("bad awful dull poor nasty terrible")
OPPOSITES = dict(pair.split("-") for pair in words("hot-cold big-small old-new long-short day-night up-down wet-dry"))
DIGITS = words("zero one two three four five six seven eight nine")
WORDS_OF_QUESTIONS = ["where", "when", "who", "what", "colour"]
ACTS = {
    "greeting": ("Hello, {you}, here is the {noun}!", "Good morning, {you}, what a {noun}!"),
    "question": ("Where is the {noun}, {you}?", "Is the {noun} in the {place}?"),
    "request": ("Please give me the {noun}.", "Please bring the {noun} to the {place}."),
    "offer": ("May I carry the {noun} for you?", "Shall I look for the {noun} in the {place}?"),
    "thanks": ("Thank you for the {noun}, {you}.", "Many thanks, I like the {noun}."),
    "apology": ("I am sorry, I lost the {noun}.", "Excuse me, the {noun} is still in the {place}."),
    "refusal": ("No, I do not want the {noun}.", "No, not in the {place}."),
    "statement": ("The {noun} is in the {place}.", "I saw the {noun} in the {place}."),
}
REPLIES = {
    "greeting": "Hello, {you}!",
    "question": "The {noun} is in the {place}.",
    "request": "Yes, here is the {noun}.",
    "offer": "Yes, please, {you}.",
    "thanks": "You are welcome, {you}.",
    "apology": "Never mind the {noun}.",
    "refusal": "Then I keep the {noun}.",
    "statement": "I go to the {place}.",
}
_SYLLABLES = {
    "Lomi": words("lo mi pe na ru"),
    "Tarsk": words("tar sko gre bik dun"),
    "Vuni": words("vu zi xa wo jy"),
}
LANGUAGES = [*_SYLLABLES]
SHARED_COLOURS, SHARED_NOUNS, SHARED_VERBS = COLOURS[:6], NOUNS[::3], [*PASTS][:6]  # what all languages can say


def _dictionary(language: str) -> dict[str, str]:
    syllables, words = _SYLLABLES[language], [*SHARED_COLOURS, *SHARED_NOUNS, *SHARED_VERBS]
    return {word: syllables[i % 5] + syllables[i // 5] for i, word in enumerate(words)}


DICTIONARIES = {language: _dictionary(language) for language in LANGUAGES}
WORDS = [  # all that answers copy
    *FEMALE,
    *MALE,
    *NOUNS,
    *COLOURS,
    *PLACES,
    *TIMES,
    *PASTS.values(),
    *DIGITS,
    *(word for dictionary in DICTIONARIES.values() for word in dictionary.values()),
]
