"""Which rows are learned from and which are held out."""

from __future__ import annotations

import numpy as np

from router.training.data import OUTSIDE, RouterData, Rows
from router.vectors import AnyArray

FOLDS = 5
HELD_SHARE = 0.1
HELD_MAX = 3000


def hold_out(data: RouterData, seed: int) -> tuple[Rows, Rows]:
    """Return in-scope rows to train on, and rows held out; every out-of-scope row is held out."""
    strangers = data.train.take(~data.train.inside)
    train = data.train.take(data.train.inside)
    if len(data.val):
        return train, data.val.join(strangers)
    order = np.random.default_rng(seed).permutation(len(train))
    share = min(HELD_MAX, int(HELD_SHARE * len(train)))
    counts = np.bincount(train.targets)
    chosen = np.zeros(len(train), dtype=bool)
    for row in order:
        if chosen.sum() >= share:
            break
        if counts[train.targets[row]] > 2:
            chosen[row] = True
            counts[train.targets[row]] -= 1
    return train.take(~chosen), train.take(chosen).join(strangers)


def deal_out(rows: Rows, seed: int) -> AnyArray:
    """Return each row's fold, so that every class is spread evenly; the first of a class is never held out."""
    fold = np.full(len(rows), -1)
    order = np.random.default_rng(seed).permutation(len(rows))
    for target in np.unique(rows.targets):
        own = order[rows.targets[order] == target]
        own = own if target == OUTSIDE else own[np.argsort(rows.finer[own], kind="stable")]
        places = (np.arange(len(own)) + target) % FOLDS
        if target != OUTSIDE:
            places[0] = -1
        fold[own] = places
    return fold
