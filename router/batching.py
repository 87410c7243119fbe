"""Micro-batches: texts that arrive while others are being scored are scored together next, with no added wait."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from router.scores import split_rows
from router.types import Scorer, Scores

MAX_BATCH = 32

_Waiting = dict[str, "asyncio.Future[Scores]"]


class Batcher:
    """Scores texts in one thread, in batches. Used from one event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="router")
        self._pending: dict[Scorer, _Waiting] = {}
        self._worker: asyncio.Task[None] | None = None

    async def score(self, scorer: Scorer, text: str) -> Scores:
        """Return the scores of one text; the same text asked for twice at the same moment is scored once."""
        waiting = self._pending.setdefault(scorer, {})
        if text not in waiting:
            waiting[text] = asyncio.get_running_loop().create_future()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        # Shielded: one caller that gives up must not cancel the score for the others who wait for it.
        return await asyncio.shield(waiting[text])

    async def aclose(self) -> None:
        """Stop; callers that still wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._pending.values():
            for future in waiting.values():
                future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        try:
            while self._pending:
                scorer, batch = self._take()
                await self._run(scorer, batch)
        finally:
            self._worker = None

    def _take(self) -> tuple[Scorer, _Waiting]:
        scorer, waiting = next(iter(self._pending.items()))
        batch = {text: waiting.pop(text) for text in list(waiting)[:MAX_BATCH]}
        if not waiting:
            del self._pending[scorer]
        return scorer, batch

    async def _run(self, scorer: Scorer, batch: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._executor, _score_each, scorer, list(batch))
        except asyncio.CancelledError:
            for future in batch.values():
                future.cancel()
            raise
        except Exception as error:  # whatever a strategy raises belongs to those who asked, not to this task
            for future in batch.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # seen: a caller may have gone, and that must not be logged as an unseen error
            return
        for future, row in zip(batch.values(), rows, strict=True):
            if not future.done():
                future.set_result(row)


def _score_each(scorer: Scorer, texts: list[str]) -> list[Scores]:
    scores = scorer.score(texts)
    for rows in (len(scores.probabilities), len(scores.in_scope)):
        if rows != len(texts):
            raise RuntimeError(f"strategy {scorer.strategy!r} returned {rows} rows of scores for {len(texts)} texts")
    return split_rows(scores)
