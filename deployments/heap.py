"""The garbage collector in a process that has loaded large libraries."""

from __future__ import annotations

import gc


def spare_the_collector() -> None:
    """Take what was loaded out of the collector's sight; call it when a process is ready to serve.

    Otherwise every few hundred requests it walks all of torch, scikit-learn and Ray: a fifth of a busy gateway's time,
    and most of its slowest answers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
