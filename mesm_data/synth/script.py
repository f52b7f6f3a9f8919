"""The words of turns: lines for an emotion, and lines of an exact number of words."""

import re

import numpy as np

PHRASES: dict[str, tuple[str, ...]] = {
    "anger": (
        "I told you never to do that again!",
        "How dare you say this to me?",
        "Get out of my house, now!",
        "I am so angry that I could scream.",
        "This is your fault: all of it.",
    ),
    "disgust": (
        "That is simply revolting.",
        "It smelled awful, and it tasted worse.",
        "I find the whole thing sickening.",
    ),
    "excited": (
        "You will never guess what happened!",
        "This is the best news I have had all year!",
        "I must tell everybody at once!",
        "We are really going to do it, at last!",
    ),
    "fear": (
        "I was scared to even open the door.",
        "What if something goes wrong?",
        "It frightens me, it really does.",
    ),
    "frustrated": (
        "I have filled in this form three times already.",
        "Why does nobody here ever listen?",
        "It is the same answer every single time.",
        "There must be somebody else I can talk to.",
    ),
    "happiness": (
        "That makes me so happy.",
        "What a lovely afternoon we had.",
        "I am glad that you came.",
        "It was wonderful, I loved every minute.",
    ),
    "neutral": (
        "I will be there at nine.",
        "The train leaves from the other platform.",
        "So, where were we?",
        "You can put it on the table.",
        "Okay.",
        "Yeah.",
    ),
    "sadness": (
        "I miss him every day.",
        "There is nothing left to say.",
        "I just sat there and cried.",
        "It will never be the way it was.",
    ),
    "surprise": ("Oh, I did not expect that at all!", "Really? Since when?", "Well, that came out of nowhere."),
}
_OPENINGS = ("Well", "you", "know", "I", "mean", "and", "then", "so", "like", "really", "just", "maybe")


def say(emotion: str, rng: np.random.Generator) -> str:
    """One or two phrases of the emotion, or of none; at times with a noise in brackets, as transcribers write it."""
    phrases = PHRASES[emotion] if rng.random() < 0.7 else PHRASES["neutral"]
    line = " ".join(rng.choice(phrases, 1 + int(rng.random() < 0.4), replace=False))
    return f"[LAUGHTER] {line}" if emotion in ("excited", "happiness") and rng.random() < 0.2 else line


def say_exactly(words: int, emotion: str, rng: np.random.Generator) -> str:
    """A line of this many NLTK tokens (punctuation counts, "[LAUGHTER]" is three). `words` is 2 or more."""
    chosen: list[str] = []
    left = words
    while fitting := [phrase for phrase in PHRASES[emotion] if count_words(phrase) <= left]:
        chosen.append(str(rng.choice(fitting)))
        left -= count_words(chosen[-1])
    if left >= 3 and rng.random() < 0.3:
        chosen.append("[LAUGHTER]")
        left -= 3
    opening = " ".join(_OPENINGS[k % len(_OPENINGS)] for k in range(left))
    return " ".join(([opening] if opening else []) + chosen)


def count_words(line: str) -> int:
    """NLTK's count for lines made of PHRASES: they hold no contraction, and no mark but . , : ? ! [ ]"""
    return len(re.findall(r"\w+|[^\w\s]", line))
