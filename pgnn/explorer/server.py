"""The local server of the page, which requires a token."""

from __future__ import annotations

import html
import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pgnn.errors import DataError, PgnnError
from pgnn.explorer.explorer import Explorer

LARGEST = 2**20
"""Largest request in bytes."""
_PATIENCE = 60.0
"""Seconds after which a silent connection is closed."""
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("cards", "details", "page", "sharing", "summary")
    },
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_REFUSAL = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>pgnn explorer</title>
<h1>This page cannot be shown</h1><p>{reason}.</p></html>
"""
_ENDED = (
    "The link is incomplete, or of an explorer that has ended. Start pgnn explore with the file of "
    "the model again and open the address that it prints. To see the same case, append the part of "
    "this link from # on"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ExplorerServer(ThreadingHTTPServer):
    """Serves an explorer on the loopback interface.

    Requests with another host name, from pages of another origin, without the token, or larger than
    a megabyte are refused. Messages are parsed as JSON and never executed.

    Args:
        explorer: The explorer that answers requests.
        port: Port number; a free port if zero.

    Attributes:
        token: The secret in the address of the page.

    Raises:
        OSError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, explorer: Explorer, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.explorer = explorer
        self.token = secrets.token_urlsafe(18)
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors, except of a client that closed its connection or became silent."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    @property
    def hosts(self) -> set[str]:
        """Accepted host names, with the port."""
        return {f"{name}:{self.server_address[1]}" for name in ("127.0.0.1", "localhost")}

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/?token={self.token}"

    @property
    def answers(self) -> dict[str, Callable[[Any], dict[str, Any]]]:
        """Handlers of POST requests, by path."""
        explorer = self.explorer
        return {
            "/api/model": lambda _: explorer.describe(),
            "/api/cost": explorer.cost,
            "/api/answer": explorer.answer,
            "/api/explanation": explorer.explain,
            "/api/table": explorer.table,
        }


def explore(
    model: Any,
    evidence: Mapping[Any, Any] | None = None,
    *,
    name: str = "",
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serve a page for interactive queries of a model, until interrupted.

    Args:
        model: A model of discrete variables.
        evidence: Findings at the start: a state of each variable, or a mapping of all its states to
            weights.
        name: Title of the page.
        port: Port number; a free port if zero.
        browser: Whether to open the page in a browser.

    Raises:
        Unsupported: If the model has arrays or reals.
        OSError: If the port is taken.
    """
    import webbrowser

    explorer = Explorer(model, name)
    with ExplorerServer(explorer, port) as server:
        address = server.address + explorer.fragment(evidence or {})
        print(f"exploring at {address}", flush=True)  # noqa: T201
        print("press Ctrl-C to end", flush=True)  # noqa: T201
        if browser:
            webbrowser.open(address)
        server.serve_forever()


class _Refused(Exception):
    """A refused request."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: ExplorerServer
    protocol_version = "HTTP/1.1"
    server_version = "pgnn"
    sys_version = ""
    timeout = _PATIENCE
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Send the page or one of its files."""
        self._answer(self._file)

    def do_POST(self) -> None:
        """Answer a question."""
        self._answer(self._json)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, because addresses contain the token."""

    def _answer(self, make: Callable[[], tuple[bytes, str]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_caller()
            body, kind = make()
        except _Refused as refusal:
            status = refusal.status
            body, kind = self._told(str(refusal))
            self.close_connection = True  # unread bytes must not be parsed as a request
        self.send_response(status)
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _told(self, reason: str) -> tuple[bytes, str]:
        if self.command == "GET":
            return _REFUSAL.format(reason=html.escape(reason)).encode(), "text/html; charset=utf-8"
        return json.dumps({"error": reason}).encode(), "application/json"

    def _check_caller(self) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "this host is not served")
        if origin is not None and origin != f"http://{host}":
            raise _Refused(HTTPStatus.FORBIDDEN, "pages of another origin are not served")

    def _check_token(self, token: str, reason: str = "the token is missing or wrong") -> None:
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, reason)

    def _file(self) -> tuple[bytes, str]:
        address = urlsplit(self.path)
        if address.path not in _FILES:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        if address.path == "/":
            self._check_token(parse_qs(address.query).get("token", [""])[0], _ENDED)
        name, kind = _FILES[address.path]
        return (resources.files("pgnn.explorer") / "page" / name).read_bytes(), kind

    def _json(self) -> tuple[bytes, str]:
        self._check_token(self.headers.get("X-Token", ""))
        answer = self.server.answers.get(self.path)
        if answer is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such question")
        message = self._message()
        try:
            with self.server.lock:
                reply = answer(message)
        except DataError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        except PgnnError as error:
            raise _Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        return json.dumps(reply, separators=(",", ":")).encode(), "application/json"

    def _message(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "the length of the request is missing")
        if len(length) > 12 or int(length) > LARGEST:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "questions are sent as JSON")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the request is no JSON") from None
