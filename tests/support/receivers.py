"""Where messages arrive in tests: a real mail server and a real HTTP server, each on a port of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from .ports import LOOPBACK, free_port
from .wait import wait_for

logging.getLogger("mail.log").setLevel(logging.ERROR)  # every line of every session


class Mailbox:
    """An SMTP server that keeps what it takes.

    refuse["somebody@example.org"] = "550 no such user"   what it answers to an address
    answer_data = "451 later"                             what it answers to a message, which it then does not keep
    begun                                                 messages that were begun, whatever became of them
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: dict[str, str] = {}
        self.answer_data = ""
        self.begun = 0
        self.before_answer: Callable[[], None] | None = None
        """Called in a thread of its own when the message is kept and the sender waits to hear that."""
        self.before_address: Callable[[], None] | None = None
        """The same while it waits for the answer to an address, when nothing has been sent yet."""
        self._controller = Controller(self, hostname=LOOPBACK, port=free_port())

    @property
    def port(self) -> int:
        return int(self._controller.port)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.before_address:
            await asyncio.get_running_loop().run_in_executor(None, self.before_address)
        if reply := self.refuse.get(address):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.begun += 1
        if not self.answer_data:
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        if self.before_answer:
            await asyncio.get_running_loop().run_in_executor(None, self.before_answer)
        return self.answer_data or "250 OK"

    def wait_for(self, count: int, timeout: float = 20) -> list[EmailMessage]:
        wait_for(lambda: len(self.mails) >= count, timeout, lambda: f"{len(self.mails)} mails, not {count}")
        return self.mails

    def __enter__(self) -> Mailbox:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


@contextmanager
def mailbox_for_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """For a fixture: a mail server that processes find which a test starts, by their environment."""
    with Mailbox() as box:
        monkeypatch.setenv("EMAIL_HOST", LOOPBACK)
        monkeypatch.setenv("EMAIL_PORT", str(box.port))
        monkeypatch.setenv("EMAIL_TIMEOUT", "60")
        yield box


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server that keeps what is posted to it, and answers `status` with `headers`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    requests: list[Received] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                receiver.requests.append(Received(self.command, self.path, dict(self.headers), body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(receiver.body)

            do_GET = do_PUT = do_POST  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
