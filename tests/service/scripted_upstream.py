"""A real OpenAI-compatible server, and one HTTP operation, whose behaviour the words of a request choose."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from ports import free_port
from service_process import until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class ScriptedUpstream:
    """Echoes what it is told. `say N words` answers N words, ten a second; `break` cuts its stream, or is a 500."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        """Headers and body of each request."""
        self.closed: list[str] = []
        """Texts of the requests whose caller hung up before the end."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/audio/transcriptions", self._transcription, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET", "HEAD"]),
            Route("/weather/{city}", self._weather, methods=["GET", "HEAD"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), host="127.0.0.1", port=self.port, log_level="critical", lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        until(lambda: self._server.started, "the upstream listens")

    def close(self) -> None:
        """Stop."""
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(10)

    def asked(self, text: str) -> list[dict[str, str]]:
        """The headers of the requests that hold a text."""
        return [headers for headers, body in self.seen if text in json.dumps(body)]

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": []})

    async def _embeddings(self, request: Request) -> Response:
        texts = (await request.json())["input"]
        data = [{"object": "embedding", "index": index, "embedding": [1.0, 0.5]} for index in range(len(texts))]
        return JSONResponse({"object": "list", "data": data, "model": "scripted-1", "usage": USAGE})

    async def _transcription(self, _: Request) -> Response:
        return JSONResponse({"text": "hello"})

    async def _weather(self, request: Request) -> Response:
        self.seen.append((dict(request.headers), dict(request.path_params)))
        return JSONResponse({"city": request.path_params["city"], "celsius": 21})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        content = body["messages"][-1].get("content")
        text = content if isinstance(content, str) else json.dumps(content)
        self.seen.append((dict(request.headers), body))
        if body.get("stream"):
            return StreamingResponse(self._chunks(text, request), media_type="text/event-stream")
        if "break" in text:
            return JSONResponse({"error": {"message": "out of order"}}, 500)
        answer = "".join([word async for word in self._words(text, request)])
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "up-1", "model": "scripted-1", "choices": [choice], "usage": USAGE})

    async def _chunks(self, text: str, request: Request) -> AsyncIterator[bytes]:
        async for word in self._words(text, request):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            yield _event({"id": "up-1", "model": "scripted-1", "choices": [choice]})
        if "break" in text:
            return
        yield _event(
            {"id": "up-1", "model": "scripted-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        )
        yield _event({"id": "up-1", "model": "scripted-1", "choices": [], "usage": USAGE})
        yield b"data: [DONE]\n\n"

    async def _words(self, text: str, request: Request) -> AsyncIterator[str]:
        words = text.split()
        if words[:1] != ["say"]:
            for word in ["echo:", *words]:
                yield f"{word} "
            return
        told = False
        try:
            for number in range(int(words[1])):
                if await request.is_disconnected():
                    return
                yield f"{number} "
                await asyncio.sleep(0.1)
            told = True
        finally:  # returned, or cancelled by the server, which notices as well
            self.closed += [] if told else [text]


def _event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
