"""The dashboard of a run that goes on: a page on loopback, behind a token.

| path       | answer                                                            |
|------------|-------------------------------------------------------------------|
| `/`        | the page                                                          |
| `/events`  | server-sent events: the run as JSON, anew whenever it has changed |
| `/metrics` | for Prometheus                                                    |

Every request needs the token, in the URL (`?token=…`, as it is printed) or as
`Authorization: Bearer …` (as Prometheus sends it), and is for a name of this host's loopback: so
neither other users of the host nor a page of another site, whose name was made to point here, read
anything.
"""

from __future__ import annotations

import errno
import hmac
import secrets
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from dbgraph.errors import UsageError
from dbgraph.watch import page, prometheus
from dbgraph.watch.fold import RunView, fold
from dbgraph.watch.job import as_json

_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost", "[::1]")
_LOOK_S = 0.05
_EVERY_S = 0.5
"""A page is told at most so often."""
_QUIET_S = 15.0
"""A stream says something at least so often, so that one that nobody reads ends."""
_PATIENCE_S = 30.0
_FAREWELL_S = 2.0
"""So long the end of a run is waited for by its pages at most."""


class Dashboard:
    """A sink of records; see `dbgraph.metrics.Sink`.

    Attributes:
        url: of the page, with its token.

    Args:
        port: to listen on; 0: any that is free.
        view: of the run's sessions before this one.

    Raises UsageError where the port can't be had.
    """

    def __init__(self, port: int = 0, view: RunView = RunView()) -> None:  # noqa: B008
        self.token = secrets.token_urlsafe(24)
        self._view, self._version, self._is_over = view, 0, False
        self._changed = Condition()
        self._streams = 0
        self._server = _listen(port, self)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{_HOST}:{self.port}/?token={self.token}"
        self._thread = Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="dashboard", daemon=True
        )
        self._thread.start()

    def take(self, record: Mapping[str, Any]) -> None:
        with self._changed:
            self._view, self._version = fold([record], self._view), self._version + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Ends when all pages have the last view, or do not take it."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._streams, _FAREWELL_S)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # For the handlers, each in its thread

    @property
    def view(self) -> RunView:
        with self._changed:
            return self._view

    def stream(self, send: Callable[[bytes], object]) -> None:
        """Sends the view now and whenever it changes, until the run is over."""
        with self._changed:
            self._streams += 1
        try:
            seen, is_over = -1, False
            while not is_over:
                view, seen, is_over = self._next(seen)
                send(b"data: " + msgspec.json.encode(as_json(view)) + b"\n\n")
            send(b"event: end\ndata:\n\n")
        finally:
            with self._changed:
                self._streams -= 1
                self._changed.notify_all()

    def _next(self, seen: int) -> tuple[RunView, int, bool]:
        """What has changed since a version; after a while also where nothing has."""
        with self._changed:
            if seen >= 0:  # the first view is sent at once
                self._changed.wait_for(lambda: self._is_over, _EVERY_S)
            self._changed.wait_for(lambda: self._is_over or self._version != seen, _QUIET_S)
            return self._view, self._version, self._is_over


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        super().__init__((_HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed is no matter to the run."""


def _listen(port: int, dashboard: Dashboard) -> _Server:
    try:
        return _Server(port, dashboard)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        rule = f"port {port} is taken" if taken else f"can't listen on port {port}"
        raise UsageError(
            rule if taken else f"{rule}: {error.strerror}",
            hint="another --dashboard-port, or --dashboard alone: it takes one that is free",
        ) from error
    except OverflowError:
        raise UsageError(f"{port} is no port: it is a number from 0 to 65535") from None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S
    server_version, sys_version = "dbgraph", ""

    def do_GET(self) -> None:
        refusal = self._refusal()
        if refusal:
            self._answer(403, "text/plain; charset=utf-8", f"{refusal}\n".encode())
            return
        match urlsplit(self.path).path:
            case "/":
                self._answer(200, "text/html; charset=utf-8", page.dashboard().encode())
            case "/metrics":
                body = prometheus.exposition(self.server.dashboard.view)
                self._answer(200, prometheus.CONTENT_TYPE, body)
            case "/events":
                self._head(200, "text/event-stream")
                self.server.dashboard.stream(self.wfile.write)
            case path:
                body = f"there is no {path} here: only /, /events and /metrics\n".encode()
                self._answer(404, "text/plain; charset=utf-8", body)

    def _refusal(self) -> str:
        """Why the request is not answered; "" where it is."""
        dashboard = self.server.dashboard
        if self.headers.get("Host") not in [f"{name}:{dashboard.port}" for name in _NAMES]:
            return "this is for requests to the loopback address alone"
        given = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        scheme, _, sent = (self.headers.get("Authorization") or "").partition(" ")
        given = sent.strip() if scheme.lower() == "bearer" else given
        if not hmac.compare_digest(given.encode(), dashboard.token.encode()):
            return "the token is missing, or it is not this run's: see the URL that the run printed"
        return ""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, status: int, kind: str, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The run's own story has no room for it."""
