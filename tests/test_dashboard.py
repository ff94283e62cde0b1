"""The dashboard's server, spoken to as a browser, Prometheus and strangers would."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from runs import at, start, whole

from dbgraph.cli import run
from dbgraph.errors import UsageError
from dbgraph.watch.fold import fold
from dbgraph.watch.server import Dashboard

NETWORK = """
import numpy as np
import dbgraph as dbg
from dbgraph import layers as L


def network():
    with dbg.Network("toy", batch=4) as net:
        scores = L.Dense(2)(dbg.input("x", (3,)))
        dbg.loss(L.SoftmaxCrossEntropy()(scores, dbg.input("y", (), dtype="int32")))
    return net


def data():
    return {"x": np.ones((8, 3), "float32"), "y": np.zeros(8, "int32")}
"""


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    found = Dashboard()
    yield found
    found.close()


def get(dashboard: Dashboard, path: str, **headers: str) -> HTTPResponse:
    line = HTTPConnection("127.0.0.1", dashboard.port, timeout=60)
    line.request("GET", path, headers=headers)
    return line.getresponse()


def events(response: HTTPResponse) -> Iterator[tuple[str, str]]:
    """(event, data) of a stream, until it ends."""
    event, data = "message", ""
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            data = value
        elif not name:
            yield event, data
            event, data = "message", ""


def test_the_page_needs_the_token(dashboard: Dashboard) -> None:
    found = get(dashboard, f"/?token={dashboard.token}")
    assert (found.status, found.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert found.getheader("Cache-Control") == "no-store"
    assert b"dbg.run()" in found.read()
    assert f"/?token={dashboard.token}" in dashboard.url
    for path in (
        "/",
        "/?token=",
        "/?token=x",
        f"/?token={dashboard.token}x",
        "/events",
        "/metrics",
    ):
        refused = get(dashboard, path)
        assert refused.status == 403, path
        assert b"token" in refused.read()
    assert get(dashboard, f"/other?token={dashboard.token}").status == 404


def test_tokens_differ() -> None:
    first, second = Dashboard(), Dashboard()
    try:
        assert first.token != second.token
        assert get(first, f"/?token={second.token}").status == 403
    finally:
        first.close()
        second.close()


def test_a_name_that_points_here_is_refused(dashboard: Dashboard) -> None:
    path, port = f"/?token={dashboard.token}", dashboard.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert get(dashboard, path, Host=host).status == 403, host
    for host in (f"localhost:{port}", f"[::1]:{port}"):
        assert get(dashboard, path, Host=host).status == 200, host


def test_prometheus_sends_the_token_as_a_header(dashboard: Dashboard) -> None:
    dashboard.take(start())
    dashboard.take(at("train", 20, loss=1.5, examples_per_s=640.0))
    found = get(dashboard, "/metrics", Authorization=f"Bearer {dashboard.token}")
    assert found.status == 200
    assert (found.getheader("Content-Type") or "").startswith("text/plain")
    text = found.read().decode()
    assert "dbgraph_" in text
    assert "1.5" in text
    assert get(dashboard, "/metrics", Authorization="Bearer x").status == 403
    assert get(dashboard, "/metrics", Authorization=f"Basic {dashboard.token}").status == 403


def test_events_deliver_what_was_written() -> None:
    dashboard = Dashboard()
    records = whole(100)
    closing = threading.Thread(target=dashboard.close)
    with get(dashboard, f"/events?token={dashboard.token}") as stream:
        assert stream.getheader("Content-Type") == "text/event-stream"
        told = events(stream)
        assert json.loads(next(told)[1])["state"] == "unknown", "at once, before there is anything"
        dashboard.take(records[0])
        assert json.loads(next(told)[1])["about"]["network"] == "digits"
        for record in records[1:]:
            dashboard.take(record)
        closing.start()  # it waits until the stream has the end
        *views, (last, _) = told
    closing.join()
    assert last == "end"
    view = json.loads(views[-1][1])
    assert (view["state"], view["step"]) == ("done", 100)
    points = view["curves"]["loss"]["points"]
    assert [step for step, _, _ in points] == list(range(10, 101, 10))
    with pytest.raises(OSError, match="refused"):
        get(dashboard, "/")


def test_a_page_that_is_not_read_does_not_hold_up_the_run() -> None:
    dashboard = Dashboard()
    with socket.create_connection(("127.0.0.1", dashboard.port)) as line:
        line.sendall(b"GET /events?token=")  # and never more
        dashboard.take(start())
        dashboard.close()


def test_a_resumed_run_shows_what_was_before() -> None:
    dashboard = Dashboard(view=fold(whole(100)))
    try:
        dashboard.take(start(100))
        assert (dashboard.view.sessions, len(dashboard.view.curves["loss"].points)) == (2, 10)
    finally:
        dashboard.close()


def test_a_port_that_is_taken(dashboard: Dashboard) -> None:
    with pytest.raises(UsageError, match=f"port {dashboard.port} is taken"):
        Dashboard(dashboard.port)


def test_the_command_line(
    tmp_path: Path, dashboard: Dashboard, capfd: pytest.CaptureFixture[str]
) -> None:
    net = tmp_path / "net.py"
    net.write_text(NETWORK)
    assert run(["train", str(net), "--steps", "2", "--quiet", "--dashboard"]) == 0
    assert "dashboard: http://127.0.0.1:" in capfd.readouterr().err
    options = ["--steps", "2", "--dashboard-port", str(dashboard.port)]
    assert run(["train", str(net), *options]) == 2
    assert f"port {dashboard.port} is taken" in capfd.readouterr().err
    assert run(["train", str(net), "--dashboard-port", "99999"]) == 2
