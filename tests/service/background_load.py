"""Requests that go on in the background while a test changes something."""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType

import httpx


class BackgroundLoad:
    """Asks nodes in turn, over and over, from a few threads; keeps what failed. Use as a context manager."""

    def __init__(self, url: str, models: tuple[str, ...], *, threads: int = 2, pause_s: float = 0.05) -> None:
        self._url = url
        self._models = itertools.cycle(models)
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]
        self.answered = 0
        self.versions: list[str] = []
        """The answers' texts, oldest first."""
        self.failed: list[str] = []

    def __enter__(self) -> BackgroundLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not self._stop.is_set():
                with self._lock:
                    model = next(self._models)
                self._ask_one(http, model)
                time.sleep(self._pause_s)

    def _ask_one(self, http: httpx.Client, model: str) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 1}
        try:
            answer = http.post("/v1/chat/completions", json=body)
            text = answer.json()["choices"][0]["message"]["content"] if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            answer, text = None, None
            reason = repr(error)
        with self._lock:
            self.answered += 1
            if text is not None:
                self.versions.append(text)
            else:
                self.failed.append(f"{model}: {answer.status_code} {answer.text}" if answer is not None else reason)
