"""Secrets by reference: `${NAME}` in a spec becomes the value of an environment variable where it is used."""

from __future__ import annotations

import os
import re

from graph.errors import InvalidSpec, Problem
from graph.spec import SECRET

OF_A_NODE = "is not set, and a node refers to it: the variable belongs in the environment that the service starts in"
"""What is wrong with a missing variable: the service cannot learn it later, or from whoever registers the node."""

OURS = frozenset({"MODELYARD_API_KEY", "MODELYARD_STORE", "MODELYARD_STORE_PASSWORD", "RAY_AUTH_TOKEN"})
"""What the service keeps to itself: whoever may register a node could have it sent to himself, and keep it for good."""


def resolve_secrets(text: str, *, missing: str = OF_A_NODE) -> str:
    """Replace every `${NAME}` in a string by the environment variable of that name.

    What a variable holds is taken as it is: references inside it are not followed. Raises `InvalidSpec` naming every
    variable that is not set, in the words of `missing`, or that is the service's own; neither the error nor anything
    else carries a value.
    """
    if kept := sorted(OURS.intersection(SECRET.findall(text))):
        raise InvalidSpec(
            [Problem("environment", name, "is the service's own secret; no node gets it") for name in kept]
        )
    if unset := unset_secrets(text):
        raise InvalidSpec([Problem("environment", name, missing) for name in unset])
    return SECRET.sub(_value, text)


def unset_secrets(text: str) -> list[str]:
    """Return the variables that a string refers to and that are not set here."""
    return sorted({name for name in SECRET.findall(text) if not os.environ.get(name)})


def _value(match: re.Match[str]) -> str:
    # A trailing newline comes from files and shells, and would break a header.
    return os.environ[match[1]].strip()
