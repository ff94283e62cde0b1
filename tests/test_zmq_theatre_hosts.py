"""Actors in workers that a user has started, as on other hosts: ports, CURVE, nobody's stdin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from replica_tools import network, train, wholes
from test_zmq_backend import Served
from theatre_actors import OTHER, SHARD, Make, Say, Script

from dbgraph.actor import Address, Envelope
from dbgraph.backends.keys import KeyPair, create_key_file, new_key, read_key_file
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_zmq import ZmqTheatre
from dbgraph.errors import ClusterLostError, UsageError
from dbgraph.wire import codec
from dbgraph.wire.messages import DRIVER, Stop


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path, count=3)
    yield found
    found.end()


def _all_echoed(script: Script) -> None:
    script.is_over = len(script.heard) == 2


@pytest.mark.slow
def test_listed_workers_play_and_end(served: Served) -> None:
    served.start()
    array = np.arange(3_000_000.0)
    script = Script(_all_echoed, [Envelope(to, Say(1), (array,)) for to in (SHARD, OTHER)])
    theatre = ZmqTheatre(served.hosts, served.key, heartbeat_s=0.1)
    theatre.run(Cast(2, (0,), 1, 0, Make()), script)
    for _, _, (echoed,) in script.heard:
        np.testing.assert_array_equal(echoed, array)
    assert {who for who, _, _ in script.heard} == {SHARD, OTHER}
    assert theatre.processes == {}
    assert [process.wait(60) for process in served.processes] == [0, 0, 0]


@pytest.mark.slow
def test_another_key_is_not_let_in(served: Served, tmp_path: Path) -> None:
    served.start()
    create_key_file(tmp_path / "other.key")

    def react(script: Script) -> None:
        if script.gone:
            raise ClusterLostError("nobody came")

    log: list[str] = []
    theatre = ZmqTheatre(served.hosts, tmp_path / "other.key", silence_s=1.0, log=log.append)
    with pytest.raises(ClusterLostError):
        theatre.run(Cast(1, (), 1, 0, Make()), Script(react))
    assert f"shard 0 ({served.listen[0]}) is lost: nothing was heard of it" in log[0]


@pytest.mark.slow
def test_another_jobs_key_is_refused_by_a_replica_that_works(served: Served) -> None:
    """It says that the replica is to end. It is counted, and the run goes on."""
    served.start()
    replica = Address("replica", 0, 0)
    refused: dict[str, int] = {}
    strangers: list[zmq.Socket[bytes]] = []
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def react(script: Script) -> Iterable[Envelope]:
        if not refused:
            refused["wrong key"] = 0
            for server in (read_key_file(served.key), new_key()):
                strangers.append(_write(context, served.listen[1], new_key(), server))
        refused.update(theatre.counters().get(replica, {}))
        script.is_over = refused["wrong key"] > 0
        return [] if script.is_over else [Envelope(replica, Say(len(script.heard)))]

    theatre = ZmqTheatre(served.hosts, served.key, heartbeat_s=0.1)
    script = Script(react, [Envelope(replica, Say(0))])
    try:
        theatre.run(Cast(1, (0,), 1, 0, Make(replica="Echo")), script)
    finally:
        context.destroy(linger=0)
    assert script.gone == []


def _write(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, own: KeyPair, server: KeyPair
) -> zmq.Socket[bytes]:
    """As somebody with a key of their own."""
    out = context.socket(zmq.PUSH)
    out.immediate = False
    out.curve_publickey, out.curve_secretkey = own.public.encode(), own.secret.encode()
    out.curve_serverkey = server.public.encode()
    out.connect(endpoint)
    out.send(codec.encode(codec.Envelope(os.urandom(16), DRIVER, 1, 1, 1, 0, Stop())))
    return out


def test_too_few_hosts_and_a_key_without_hosts(served: Served) -> None:
    with pytest.raises(UsageError, match="lists 3 workers, and there is none left for replica 1,"):
        ZmqTheatre(served.hosts, served.key).run(
            Cast(2, (0, 1), 1, 0, Make()), Script(lambda _: None)
        )
    with pytest.raises(UsageError, match="key file"):
        ZmqTheatre(served.hosts)
    with pytest.raises(UsageError, match="key file"):
        ZmqTheatre(key=served.key)
    with pytest.raises(UsageError, match="port 7000"):
        ZmqTheatre(port=7000)


_DRIVER = """
import sys
from theatre_actors import SHARD, Make, Say, Script
from dbgraph.actor import Envelope
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_zmq import ZmqTheatre
script = Script(lambda script: script.heard and print("at work", flush=True))
script.within_s, script.first = 60, [Envelope(SHARD, Say(0))]
ZmqTheatre(sys.argv[1], sys.argv[2]).run(Cast(3, (), 1, 0, Make()), script)
"""


@pytest.mark.slow
def test_listed_workers_end_when_the_driver_is_gone(served: Served) -> None:
    served.start()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(served.hosts), str(served.key)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "at work\n"
        driver.kill()
    for process in served.processes:
        _, said = process.communicate(timeout=12)
        assert "the driver is gone (nothing was heard of it for 8 s)" in said


@pytest.mark.slow
def test_listed_workers_train(served: Served) -> None:
    net = network()
    rule = "adagrad:learning_rate=0.1"
    plain = train(net, optimizer=rule)
    served.start()
    found = train(
        net,
        optimizer=rule,
        shards=2,
        algorithm="downpour",
        backend="zmq",
        backend_options={"hosts": served.hosts, "key": served.key},
    )
    assert found.losses == plain.losses
    for key, value in wholes(plain.final).items():
        np.testing.assert_array_equal(wholes(found.final)[key], value, err_msg=str(key))
