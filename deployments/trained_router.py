"""Keeps a gateway's router at the trained artefact of a folder: loaded at the start, again when its card changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from router.artifact import CARD, RouterArtifact, load_artifact
from router.router import Router

log = logging.getLogger("modelyard.router")

LOOK_EVERY_S = 2.0


class TrainedRouter:
    """Follows one folder. The card is what is written last, so a new card means a whole new artefact."""

    def __init__(self, folder: Path, router: Router, refit: Callable[[], Awaitable[None]]) -> None:
        """`refit` fits the router to the nodes that there are, once it has taken a new artefact."""
        self._folder = folder
        self._router = router
        self._refit = refit
        self._seen: tuple[int, int] | None = None

    async def load(self) -> bool:
        """Take the artefact if it is new, and say so. What was in use stays if it cannot be read, which is logged."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            artifact, digest = await asyncio.to_thread(self._read)
        except Exception:  # a boundary: whatever a broken artefact raises, requests go on being routed as before
            log.exception("the trained router in %s could not be loaded; what was in use stays", self._folder)
            return False
        self._router.adopt(artifact.scorer, f"trained:{digest}")
        log.info("trained router %s of %d nodes taken from %s", digest, len(artifact.scorer.labels), self._folder)
        return True

    async def follow(self) -> None:
        """Look for a new card for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await self.load():
                try:
                    await self._refit()
                except Exception:  # a boundary: the fit in force stays, and the next change tries again
                    log.exception("the router could not be fitted to the nodes with its new artefact")

    def _read(self) -> tuple[RouterArtifact, str]:
        digest = hashlib.sha256((self._folder / CARD).read_bytes()).hexdigest()
        return load_artifact(self._folder), digest[:12]

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / CARD).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
