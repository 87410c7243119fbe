"""What reads other people's bytes, under a few hundred mutations; `python -m benchmarks.fuzz` goes on for longer."""

from __future__ import annotations

import random

import pytest

from benchmarks.fuzz import TARGETS, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_breaks_a_promise(name: str) -> None:
    runs, bad = fuzz(name, random.Random(7), lambda runs: runs < 300)  # noqa: S311  # no secret
    assert (runs, bad) == (300, [])
