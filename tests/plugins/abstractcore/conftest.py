"""An LLM server that answers what a test tells it to, on a port of this machine."""

import json
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PATIENCE_S = 30


@dataclass
class Reply:
    """``body``: bytes as they are, anything else as JSON. ``missing``: bytes announced and never sent. ``after``: an
    event to wait for before anything is sent."""

    body: object = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    missing: int = 0
    after: threading.Event | None = None


@dataclass
class Request:
    path: str
    headers: dict
    body: dict


class Server(ThreadingHTTPServer):
    """``replies`` are given one per request, the last one for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = deque()
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answers(self, *replies):
        self.replies = deque(reply if isinstance(reply, Reply) else Reply(reply) for reply in replies)

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(
            Request(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body))
        )
        replies = self.server.replies
        reply = replies.popleft() if len(replies) > 1 else replies[0]
        if reply.after is not None:
            assert reply.after.wait(PATIENCE_S)
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + reply.missing))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Not into the test's output."""


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE_S)


@pytest.fixture
def reply():
    """A reply that is more than a JSON body with status 200."""
    return Reply


@pytest.fixture
def completion():
    """The body of an answer as servers send it."""

    def body(content="hello", *, tool_calls=None, **fields):
        message = {"role": "assistant", "content": content}
        if tool_calls is not None:
            message["tool_calls"] = tool_calls
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "tiny",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        } | fields

    return body


@pytest.fixture
def dead_url():
    """Where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
