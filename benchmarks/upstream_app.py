"""The upstream of the gateway's measurements: an ASGI application that answers a fixed chat completion.

python -m benchmarks.upstream_app PORT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1,
        "model": "fixed",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes. " * 20}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
    }
).encode()
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(COMPLETION)).encode())],
}
_BODY = {"type": "http.response.body", "body": COMPLETION}


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Read the body and answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


def main() -> None:
    """Serve on the loopback address until killed."""
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off",
                log_level="warning", access_log=False)  # fmt: skip


if __name__ == "__main__":
    main()
