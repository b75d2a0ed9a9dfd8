"""A receiver of webhooks: a real HTTP server on loopback, that answers as a test wants."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Heard:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The CloudEvents in it."""
        found = json.loads(self.body)
        return found if isinstance(found, list) else [found]


@dataclass
class Answer:
    """What the receiver answers."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


class WebhookReceiver:
    """Records requests, those that it refuses too.

    Args:
        answer: called with each request.
        port: 0: any.

    """

    def __init__(self, answer: Callable[[Heard], Answer] = lambda _: Answer(), port: int = 0) -> None:
        self.answer = answer
        self.requests: list[tuple[Heard, int]] = []
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # the sender was ended in the middle of its request
                heard = Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                answer = receiver.answer(heard)
                receiver.requests.append((heard, answer.status))
                if answer.hang:
                    receiver._ended.wait(60)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # senders that are killed break connections

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The events of the requests that it has accepted, in order, repeated ones too."""
        return [event for heard, status in list(self.requests) if status < 300 for event in heard.events]

    @property
    def distinct(self) -> list[dict[str, Any]]:
        """The accepted events without repeats: a request comes again if its sender ended before it was noted."""
        return list({event["id"]: event for event in self.taken}.values())

    def told(self, *, repeats: bool = False) -> list[tuple[str, str]]:
        """The user and the kind of each accepted event, with or without repeats."""
        events = self.taken if repeats else self.distinct
        return [(event["subject"], event["type"].split(".")[1]) for event in events]
