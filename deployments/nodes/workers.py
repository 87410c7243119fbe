"""Blocking model code on threads, seen from the event loop as streams that can be closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Emit(Generic[T]):
    """What blocking work gets to hand its results over; calling it says whether nobody waits any more."""

    def __init__(self, put: Callable[[T], None]) -> None:
        self._put = put
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the reader went away: the work should stop at the next chance."""
        return self._closed.is_set()

    def __call__(self, item: T) -> bool:
        """Hand over one item; return whether the work should stop."""
        if not self.closed:
            try:
                self._put(item)
            except RuntimeError:  # the event loop is gone, and the reader with it
                self.close()
        return self.closed

    def close(self) -> None:
        """Tell the work to stop."""
        self._closed.set()


class Workers:
    """A bounded set of threads. Work beyond the bound waits in order, and can be closed while it waits."""

    def __init__(self, name: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._active: set[Emit[Any]] = set()

    async def stream(self, work: Callable[[Emit[T]], None]) -> AsyncGenerator[T, None]:
        """Run `work` in a thread and yield what it emits. Closing the iterator tells the work to stop.

        Raises what the work raised, after what it emitted.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
        emit: Emit[T] = Emit(lambda item: _ignore(loop.call_soon_threadsafe(queue.put_nowait, (item,))))
        future = loop.run_in_executor(self._pool, work, emit)
        future.add_done_callback(lambda done: _finish(done, queue))
        self._active.add(emit)
        try:
            while (box := await queue.get()) is not None:
                yield box[0]
            await future
        finally:
            emit.close()
            future.cancel()
            self._active.discard(emit)

    async def aclose(self) -> None:
        """Tell all work to stop and wait until the threads have ended."""
        for emit in list(self._active):
            emit.close()
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)


def _finish(done: asyncio.Future[None], queue: asyncio.Queue[tuple[T] | None]) -> None:
    if not done.cancelled():
        done.exception()  # marks it as seen: the reader may be gone
    queue.put_nowait(None)


def _ignore(_: object) -> None: ...
