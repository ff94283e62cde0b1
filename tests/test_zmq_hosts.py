"""Keys, hosts files, addresses; and what the driver says while it waits."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dbgraph.backends import hosts, keys
from dbgraph.backends.zeromq import ZmqBackend
from dbgraph.backends.zeromq_watch import Watch
from dbgraph.backends.zeromq_worker import serve
from dbgraph.errors import UsageError
from dbgraph.wire.messages import Heartbeat


def test_a_key_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "job.key"
    keys.create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = keys.read_key_file(path)
    assert key.secret in path.read_text()
    assert key.secret not in repr(key)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "job.key"
    keys.create_key_file(path)
    before = path.read_text()
    with pytest.raises(UsageError, match="exists"):
        keys.create_key_file(path)
    assert path.read_text() == before
    with pytest.raises(UsageError, match="No such file"):
        keys.create_key_file(tmp_path / "nowhere" / "job.key")


def test_bad_key_files_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "job.key", tmp_path / "other.key"
    keys.create_key_file(path)
    keys.create_key_file(other)
    good, public = path.read_text(), other.read_text().split()[4]
    title, mine, secret, _ = good.split("\n")
    for text in ("", "x", good[:-5], good.replace("1\n", "2\n", 1), f"{title}\n{secret}\n{mine}\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="no key file"):
            keys.read_key_file(path)
    path.write_text(f"{title}\npublic {public}\n{secret}\n")
    with pytest.raises(UsageError, match="no pair"):
        keys.read_key_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no text"):
        keys.read_key_file(path)
    with pytest.raises(UsageError, match="dbgraph key"):
        keys.read_key_file(tmp_path / "none")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.key"
    keys.create_key_file(path)
    os.chmod(path, 0o640)
    with pytest.raises(UsageError, match="mode 0640"):
        keys.read_key_file(path)


def test_a_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(
        'driver = "tcp://10.0.0.1:7000"\n[[host]]\naddress = "tcp://10.0.0.2:7000"\n'
        '[[host]]\naddress = "tcp://[fe80::1]:7001"  # IPv6\n'
    )
    assert hosts.read_hosts(path) == hosts.Hosts(
        ("tcp://10.0.0.2:7000", "tcp://[fe80::1]:7001"), "tcp://10.0.0.1:7000"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no host"),
        ("host = [", "is no TOML"),
        ('[[host]]\naddress = "10.0.0.2:7000"', "no address such as"),
        ("[[host]]\naddress = 7000", "no address such as"),
        ('[[host]]\naddress = "tcp://a:99999"', "no address such as"),
        ('[[host]]\naddress = "tcp://a:*"', "names no port"),
        ('driver = "tcp://0.0.0.0:1"\n[[host]]\naddress = "tcp://a:1"', "others can't reach"),
        ("[[host]]\nadress = 1", "expected an address alone"),
        ('[[hosts]]\naddress = "tcp://a:1"', "unknown hosts"),
        ('[[host]]\naddress = "tcp://a:1"\n[[host]]\naddress = "tcp://a:1"', "listed twice"),
    ],
)
def test_bad_hosts_files(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        hosts.read_hosts(path)


def test_a_hosts_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        hosts.read_hosts(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("endpoint", "is_it"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.3.0.1:*", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://example.org:1", False),
    ],
)
def test_what_is_loopback(endpoint: str, is_it: bool) -> None:
    assert hosts.is_loopback(endpoint) is is_it


def test_other_hosts_need_a_key() -> None:
    with pytest.raises(UsageError, match="key file"):
        ZmqBackend(hosts=hosts.Hosts(("tcp://10.0.0.2:7000",)))


def test_a_worker_needs_a_key_and_a_port(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="key file"):
        serve("tcp://127.0.0.1:7000", tmp_path / "none")
    keys.create_key_file(tmp_path / "job.key")
    with pytest.raises(UsageError, match="names no port"):
        serve("tcp://127.0.0.1:*", tmp_path / "job.key")


def test_the_worker_program_is_for_dbgraph_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbgraph.backends.zeromq_worker"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"dbgraph worker" in done.stderr


def test_a_worker_loads_only_what_it_needs() -> None:
    code = (
        "import sys, dbgraph.backends.zeromq_worker; print([m for m in sys.modules if m.split('.')"
        "[0] in ('jax', 'click', 'rich', 'optax', 'networkx') or m.startswith(('dbgraph.passes', "
        "'dbgraph.dsl', 'dbgraph.compile'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_waiting_is_reported_after_a_while_and_ever_more_rarely() -> None:
    watch = Watch(report_s=5, stall_s=100)
    text = "hidden3→hidden4, microbatch 0, from partition 1 (last heard 3.2 s ago)"
    said = [
        (since, watch.line(2, "partition 2 (pid 1)", Heartbeat(7, "", text, since), 0.0))
        for since in range(30)
    ]
    assert [since for since, line in said if line] == [5, 10, 20]
    assert said[5][1] == f"partition 2 waits for {text}"


def test_another_wait_is_reported_anew() -> None:
    watch = Watch(report_s=5, stall_s=100)
    assert watch.line(2, "", Heartbeat(7, "", "a", 6.0), 0.0)
    assert not watch.line(2, "", Heartbeat(8, "", "b", 1.0), 0.0)
    assert watch.line(2, "", Heartbeat(8, "", "b", 5.0), 0.5)


def test_computing_long_is_no_death() -> None:
    watch = Watch(report_s=5, stall_s=100)
    beat = Heartbeat(7, "RUN s3.0 (hidden3)", "", 29.0)
    assert watch.line(2, "", beat, 0.0) == ""
    line = watch.line(2, "", beat, 1.0)
    assert line.startswith("partition 2 is at RUN s3.0 (hidden3) for 30 s; its process answers")
    assert watch.stuck(beat, 1.0) == ""
    assert "RUN s3.0 (hidden3) for 100 s" in watch.stuck(Heartbeat(7, beat.doing, "", 100.0), 0.0)
    assert watch.stuck(Heartbeat(7, "", "something", 100.0), 0.0) == ""


def test_silence_is_reported() -> None:
    line = Watch(5, 100).line(2, "partition 2 (pid 1 on this host)", Heartbeat(), 6.0)
    assert line == "partition 2 (pid 1 on this host) is silent for 6.0 s"
