"""The progress bars that transformers draws while it reads a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Draw none inside: they would stand in a service's log, and in the output of a command in a pipe."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
