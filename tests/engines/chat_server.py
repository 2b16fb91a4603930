"""A real web server on this machine that speaks chat completions, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], Any]
"""What a request gets: a text, a status with headers, bytes to send as they are, or None to drop the connection."""


class ChatServer(ThreadingHTTPServer):
    """Keeps what it was asked, and how many questions it had at the same time."""

    daemon_threads = True

    def __init__(self, answer: Answer, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.delay = answer, delay
        self.asked: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where its API begins."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """Nothing: a client that went away is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers_seen.append(dict(self.headers))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(self.server.delay)
        found = self.server.answer(body) if self.path == "/v1/chat/completions" else (404, {})
        with self.server.lock:
            self.server.now -= 1
        self._send(found)

    def _send(self, found: Any) -> None:
        if found is None:
            self.close_connection = True
            return
        status, headers, sent = 200, {}, found if isinstance(found, bytes) else b"the prompt was: private words"
        if isinstance(found, tuple):
            status, headers = found
        elif not isinstance(found, bytes):
            message = found if isinstance(found, dict) else {"content": found}
            choice = {"message": message, "finish_reason": "stop"}
            sent = json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(sent))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(answer: Answer, delay: float = 0.0) -> Iterator[ChatServer]:
    """A running server."""
    server = ChatServer(answer, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def prompt_of(body: dict[str, Any]) -> str:
    """All that the messages of a request say."""
    return "\n".join(message["content"] for message in body["messages"])
