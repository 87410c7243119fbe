"""What each clause of a request needs: outputs of clauses before it, the attachments, the pasted passage.

The evidence is anaphora ("it", "the summary", "all of the above"), order words before a clause that does not stand
alone, and mentions of the recording or picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from router.planners.clauses import HIDDEN, Clause, mask
from router.planners.lexicon import (
    EVERYTHING,
    EXPLETIVE,
    FAMILIES,
    FILLER,
    MATERIAL,
    PLAIN_PRODUCT,
    PRODUCTS,
    PRONOUN,
    RESULT,
    TRANSFORM,
)

_LOOK_BACK = 2000
"""Characters of a clause that are read; what follows is a passage, not an instruction."""
_OWN_LITERAL = re.compile(r"(?i)\b(?:this|these|it|that)\b\s*:?\s*" + HIDDEN)
_INNER = re.compile(
    r"(?i)\b(?:a|an|any|each|every|some|two|my|your|their)\s+\w+[^.]*?\b(?:and|or|if|when|while|before|until|so|"
    r"because)\b"
    r"[^.]*?\b(?:it|its|them|they)\b"
)
_RELATIVE = re.compile(r"(?i)\b(?:that|which|who)\s+\w+s?\b")
_INDEFINITE = re.compile(r"(?i)\b(?:a|an|some)\s+((?:[\w-]+\s+){0,3}[\w-]+)")
_PHRASE_END = re.compile(
    r"(?i)\b(?:that|which|to|for|of|about|with|in|from|and|or|on|who|as|by|between|where|when|using|under|into|at|it|me)\b"
)
_DEFINITE = re.compile(r"(?i)\b(?:the|that|this|these|those|your|its|both|said)\s+((?:[\w-]+\s+){0,2}[\w-]+)")
_COMPLEMENT = re.compile(
    r"(?i)\b(?:that|which|who|to|for|of|about|between|whether|with|in|on|from|how|why|what|when|where)\s+(?!(?:me|"
    r"us|it|this|that|them|"
    r"him|her|the (?:result|team|user|above|email|list)|english|french|german|spanish|italian|chinese|japanese|"
    r"bullet|plain|"
    r"one|two|three|short|simple|detail|order|a (?:few|short|table|list))\b)\w+"
)
_NAME = re.compile(r"(?<!^)(?<![.!?] )\b(?:[A-Z][a-z]{2,}|[A-Z]{2,}|\d[\d.,:%-]*)\b")


@dataclass(frozen=True, slots=True)
class Needs:
    """What one clause needs before it can be done."""

    earlier: frozenset[int] = frozenset()
    """Indices of clauses whose output it takes."""
    attachment: bool = False
    """Whether it speaks of what is attached."""
    material: bool = False
    """Whether it speaks of the pasted passage."""
    carried: bool = False
    """Whether a pronoun carried the topic here, so that the next pronoun means the same."""


def needs(clauses: Sequence[Clause], mentions: Sequence[bool], sources: Sequence[bool], pasted: bool) -> list[Needs]:
    """Find what each clause needs.

    `mentions` says which clauses name an attachment, `sources` which ones only turn it into text (a transcription),
    `pasted` whether there is a pasted passage.
    """
    texts = [_OWN_LITERAL.sub("literal", mask(clause.text[:_LOOK_BACK])) for clause in clauses]
    found: list[Needs] = []
    for index, text in enumerate(texts):
        if sources[index]:
            found.append(Needs(attachment=True))
        else:
            found.append(_one(index, text, texts, clauses, mentions, sources, pasted, found))
    return _pasted_used(found, pasted)


def _one(
    index: int,
    text: str,
    texts: Sequence[str],
    clauses: Sequence[Clause],
    mentions: Sequence[bool],
    sources: Sequence[bool],
    pasted: bool,
    found: Sequence[Needs],
) -> Needs:
    """Find what one clause needs; the most explicit evidence decides."""
    material = pasted and _speaks_of_material(text)
    if mentions[index]:
        extra = _named(index, text, texts)
        return Needs(frozenset() if extra is None or sources[extra] else frozenset({extra}), True, material)
    if index == 0:
        return Needs(material=material)
    if EVERYTHING.search(text) or (re.search(r"(?i)\b(?:both|these)\b", text) and index > 1 and not material):
        return Needs(_open_ends(index, found))
    named = _named(index, text, texts)
    if named is not None:
        return _of(named, sources)
    if RESULT.search(text):
        return _of(index - 1, sources)
    if points_outward(text):
        return _topic(index, clauses, texts, sources, found, material)
    if (clauses[index].ordered or sources[index - 1]) and not stands_alone(text) and not material:
        return _of(index - 1, sources)
    return Needs(material=material)


def _of(index: int, sources: Sequence[bool]) -> Needs:
    return Needs(attachment=True) if sources[index] else Needs(frozenset({index}))


def _topic(
    index: int,
    clauses: Sequence[Clause],
    texts: Sequence[str],
    sources: Sequence[bool],
    found: Sequence[Needs],
    material: bool,
) -> Needs:
    """Resolve a bare pronoun: it keeps the topic of the clause before unless that one made something new."""
    before = found[index - 1]
    fresh = clauses[index].ordered or _makes_new(texts[index - 1])
    if not sources[index - 1] and not fresh and (before.carried or before.attachment or before.material):
        return Needs(before.earlier, before.attachment, before.material, carried=True)
    if sources[index - 1]:
        return Needs(attachment=True, carried=True)
    return Needs(frozenset({index - 1}), carried=True, material=material and not fresh and before.material)


def _makes_new(text: str) -> bool:
    """Whether the object of a request is a new thing: "write a letter", not "explain the risk"."""
    filler = FILLER.match(text)
    return re.match(r"(?i)[\w-]+\s+(?:me\s+|us\s+)?(?:a|an|some)\s", text[filler.end() if filler else 0 :]) is not None


def _open_ends(index: int, found: Sequence[Needs]) -> frozenset[int]:
    taken = {need for item in found for need in item.earlier}
    return frozenset(range(index)) - taken


def points_outward(text: str) -> bool:
    """Whether a pronoun points out of the clause."""
    bare = EXPLETIVE.sub(" ", text)
    if not PRONOUN.search(bare):
        return False
    relative = list(_RELATIVE.finditer(bare))
    inner = bare[relative[-1].start() :] if relative else bare
    return _INNER.search(inner[:600]) is None  # the pattern is not linear


def _named(index: int, text: str, texts: Sequence[str]) -> int | None:
    """Find the latest earlier clause that makes what this one calls "the summary", "the function", …"""
    nouns = [word for match in _DEFINITE.finditer(text) for word in match[1].lower().split()]
    for earlier in reversed(range(index)):
        made = _made_by(texts[earlier])
        if any(noun in made for noun in nouns):
            return earlier
    return None


def _made_by(text: str) -> frozenset[str]:
    """Return the nouns that name what a clause leaves behind."""
    filler = FILLER.match(text)
    rest = text[filler.end() if filler else 0 :].lower()
    made = {noun for stem, nouns in PRODUCTS.items() if rest.startswith(stem) for noun in nouns}
    first = _INDEFINITE.search(rest[:160])
    if first and not rest.startswith(("what", "is ", "does", "can", "how")):
        made |= set(_noun_phrase(first)[-2:])
    for family in FAMILIES:
        if made & family:
            made |= family
    return frozenset(made)


def _noun_phrase(indefinite: re.Match[str]) -> list[str]:
    """Return the words of "a …" up to what describes it."""
    return _PHRASE_END.split(indefinite[1])[0].split()


def stands_alone(text: str) -> bool:
    """Whether a clause says by itself what it is about."""
    filler = FILLER.match(text)
    rest = text[filler.end() if filler else 0 :].strip(" .!?")
    if HIDDEN in rest or _NAME.search(rest):
        return True
    if not TRANSFORM.match(rest):
        return True
    made = _INDEFINITE.search(rest)
    noun = _noun_phrase(made)[-1:] if made else []
    if noun and noun[0].lower() not in PLAIN_PRODUCT and len(rest.split()) > 3:
        return True
    return _COMPLEMENT.search(rest) is not None


def _speaks_of_material(text: str) -> bool:
    return MATERIAL.search(text) is not None


def _pasted_used(found: list[Needs], pasted: bool) -> list[Needs]:
    """Give a pasted passage that nobody names to the first clause."""
    if pasted and not any(item.material for item in found) and found:
        found[0] = Needs(found[0].earlier, found[0].attachment, True, found[0].carried)
    return found


def points_at_attachment(text: str) -> bool:
    """Whether a clause with nothing before it points at something: "is this enforceable?"."""
    shown = mask(text[:_LOOK_BACK])
    return points_outward(shown) or re.search(r"(?i)\b(?:attach\w*|this|enclosed|above|below)\b", shown) is not None
