"""JSON answers by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class JSONResponse(Response):
    """An answer with a JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialise with orjson, which is several times faster than the standard library."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
