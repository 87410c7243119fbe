"""Guesses the language of a request from its most common words, or from its script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_WORDS = {
    "en": "the a of and to in is are was for with that this it on what how who please me my you do does can from give",
    "de": "der die das und ist sind ein eine den dem nicht mit für von zu auf wie was wer bitte ich mir du kann im gib",
    "fr": "le la les et est sont un une du dans pour avec que qui quel quelle comment moi je vous il elle au sur ce",
    "es": "el los las y es son un una del en para con que qué cómo cuál quién por favor me yo su al lo está dame",
    "it": "il lo gli le e è sono un una di nel per con che come chi quale mi io del della questo si dammi da",
    "pt": "o os as e é são um uma do da em para com que como qual quem por favor me eu no na ao está",
    "nl": "de het een en is zijn van in op voor met dat wat wie hoe ik mij je niet naar deze geef kan alstublieft",
}
_SCRIPTS = {"HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "CYRILLIC": "ru", "ARABIC": "ar"}
_SCRIPTS |= {"HEBREW": "he", "GREEK": "el", "THAI": "th", "DEVANAGARI": "hi"}
NAMES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese"}
NAMES |= {"nl": "Dutch", "ja": "Japanese", "ko": "Korean", "zh": "Chinese", "ru": "Russian", "ar": "Arabic"}
NAMES |= {"he": "Hebrew", "el": "Greek", "th": "Thai", "hi": "Hindi"}


def language_of(text: str) -> str | None:
    """Return the language's ISO 639-1 code, or None when nothing tells."""
    start = text[:2000]
    letters = [unicodedata.name(letter, "").partition(" ")[0] for letter in start if letter.isalpha()]
    scripts = Counter(_SCRIPTS[name] for name in letters if name in _SCRIPTS)
    if scripts.total() * 2 > len(letters):
        return "ja" if scripts["ja"] else scripts.most_common(1)[0][0]
    words = Counter(re.findall(r"[^\W\d_]+", start.lower()))
    scores = {code: sum(words[word] for word in known.split()) for code, known in _WORDS.items()}
    best = max(scores, key=lambda code: scores[code])
    return best if scores[best] else None
