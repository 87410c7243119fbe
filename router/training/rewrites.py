"""What a rewrite is learned from where the data hold none: a request without the courtesies around it.

The rules take away, from the beginning: greetings ("hi", "good morning", "hello there"), "please", and openings that
only ask for leave to ask ("could you please tell me", "I would like you to", "I was wondering if you could"); from the
end: thanks ("thanks in advance", "thank you so much"), "please" and a closing smile. What is left keeps its words and
begins with a capital where the request did. A request of courtesies alone stays as it is.
"""

from __future__ import annotations

import random
import re
from collections import Counter

_OPENINGS = re.compile(
    r"""^(?:
      (?:hi|hello|hey|dear\ \w+|good\ (?:morning|afternoon|evening|day))(?:\ (?:there|all|everyone|team))?\b\s*[,!.:]*
    | please\b[,]?
    | (?:can|could|would)\ you\ (?:please\ |kindly\ )?(?:tell\ me|help\ me(?:\ to)?)\b[,:]?
    | (?:can|could|would)\ you\ (?:please|kindly)\b
    | i\ (?:was\ wondering|wonder)\ (?:if|whether)\ you\ (?:can|could|would|might)\b
    | i(?:\ would|'d)\ (?:like|love)\ (?:you\ to|to\ know)\b
    | i\ (?:have|'ve\ got)\ a\ (?:quick\ )?question\b\s*[,:.!-]*
    | (?:excuse\ me|sorry\ to\ bother\ you)\b\s*[,:.!-]*
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_CLOSINGS = re.compile(
    r"""[\s,.!-]*(?:
      (?:many\ )?(?:thanks|thank\ you|thx)(?:\ (?:a\ lot|so\ much|very\ much|in\ advance|for\ your\ help|again))*
    | ,?\ please | cheers | [:;]-?\)
    )[\s.!]*$""",
    re.IGNORECASE | re.VERBOSE,
)
_COURTESIES = frozenset(
    """hi hello hey dear there all everyone team good morning afternoon evening day please kindly maybe can could would
    you tell me help to i was am wondering wonder if whether might like love know have a an quick question excuse sorry
    bother many thanks thank thx lot so much very in advance for your again cheers""".split()
)
_WRAPPINGS = (
    "Hi, {}",
    "Hello! {} Thanks in advance.",
    "Hi there, I have a quick question: {}",
    "Good morning, {} Thank you so much!",
    "Sorry to bother you. {}",
    "{} Thanks a lot!",
    "{} Many thanks.",
    "Excuse me, {} Thank you!",
)


def unwrap(text: str) -> str:
    """Return the request without greetings, leave-asking and thanks."""
    bare = text.strip()
    while True:
        shorter = _CLOSINGS.sub(_ending, _OPENINGS.sub("", bare)).strip()
        if not re.search(r"\w", shorter):
            return text.strip()
        if shorter == bare:
            break
        bare = shorter
    return bare[0].upper() + bare[1:] if text.strip()[0].isupper() else bare


def wrap(text: str, dice: random.Random) -> str:
    """Return the request with courtesies around it, as people write them; `unwrap` undoes it."""
    return dice.choice(_WRAPPINGS).format(text)


def keeps_content(text: str, rewrite: str) -> bool:
    """Say whether a rewrite adds no word to the text, and leaves out nothing but words of courtesy."""
    before, after = (Counter(re.findall(r"\w+", part.lower())) for part in (text, rewrite))
    return not after - before and set(before - after) <= _COURTESIES


def _ending(match: re.Match[str]) -> str:
    """Keep the sentence mark that stood before the thanks."""
    mark = match.group().lstrip()[:1]
    return mark if mark in {".", "!"} else ""
