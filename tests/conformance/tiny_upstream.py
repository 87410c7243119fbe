"""Small upstreams for the kinds that call one: an OpenAI-compatible chat, a tool, and an MCP server."""

from __future__ import annotations

import json
import socket
import threading
import time
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply({"path": self.path})

    def do_HEAD(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            return self._stream()
        message = {"role": "assistant", "content": "hello there"}
        self._reply({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        steps: list[Any] = [{"content": "hello"}, {"content": " there"}, {}]
        chunks: list[Any] = [{"choices": [{"delta": step, "finish_reason": None}]} for step in steps]
        chunks[-1]["choices"][0]["finish_reason"] = "stop"
        lines = [json.dumps(chunk) for chunk in [*chunks, {"choices": [], "usage": USAGE}]] + ["[DONE]"]
        for line in lines:
            data = f"data: {line}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _reply(self, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


@cache
def url() -> str:
    """Start the upstream, once, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


@cache
def mcp_url() -> str:
    """Start the MCP server, once, and return its address."""
    import tools_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = partial(tools_server.server.run, "streamable-http", host="127.0.0.1", port=port)
    threading.Thread(target=run, daemon=True).start()
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}/mcp"
