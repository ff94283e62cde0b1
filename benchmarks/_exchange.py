"""The bytes of the parameter server's benchmark by other means: raw TCP, and torch's RPC.

Each client sends to every server as many bytes as a push has, and gets as many back. By TCP the
servers only receive and send, into and out of memory that is there. By RPC they keep parameters
and sums of squares, apply Adagrad, and send the parameters back, as a shard does.
"""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Exchange:
    """What is exchanged.

    Attributes:
        numbers: float32, spread evenly over the servers.
        rounds: that are counted.
    """

    servers: int
    clients: int
    numbers: int
    rounds: int

    @property
    def share(self) -> int:
        """Numbers on a server."""
        return self.numbers // self.servers


def has_torch() -> bool:
    return find_spec("torch") is not None


def by_tcp(exchange: Exchange) -> list[float]:
    """Seconds of each round."""
    return _run(exchange, _tcp_server, _tcp_client)


def by_torch(exchange: Exchange) -> list[float]:
    """Seconds of each round. Raises ModuleNotFoundError where there is no torch."""
    with tempfile.NamedTemporaryFile() as file:
        return _run(exchange, _torch_server, _torch_client, f"file://{file.name}")


def _run(exchange: Exchange, server: Any, client: Any, *more: str) -> list[float]:
    """Runs servers and clients; the rounds of the first client."""
    context = multiprocessing.get_context("spawn")
    ports: Any = context.Queue()
    times: Any = context.Queue()
    barrier: Any = context.Barrier(exchange.clients)
    servers = [
        context.Process(target=server, args=(number, exchange, ports, *more))
        for number in range(exchange.servers)
    ]
    for process in servers:
        process.start()
    found = tuple(ports.get(timeout=60) for _ in servers)
    clients = [
        context.Process(target=client, args=(number, exchange, found, barrier, times, *more))
        for number in range(exchange.clients)
    ]
    for process in clients:
        process.start()
    taken: list[float] = times.get(timeout=120)
    for process in (*clients, *servers):
        process.join()
    return taken


def _rounds(
    number: int, exchange: Exchange, step: Callable[[], object], barrier: Any, times: Any
) -> None:
    """A step that all clients begin together, again and again; the first is not counted."""
    taken = []
    for _ in range(exchange.rounds + 1):
        barrier.wait()
        began_s = time.perf_counter()
        step()
        barrier.wait()
        taken.append(time.perf_counter() - began_s)
    if number == 0:
        times.put(taken[1:])


# TCP


def _tcp_server(number: int, exchange: Exchange, ports: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports.put(listener.getsockname()[1])
        threads = []
        for _ in range(exchange.clients):
            line, _ = listener.accept()
            threads.append(threading.Thread(target=_echo, args=(line, exchange)))
            threads[-1].start()
        for thread in threads:
            thread.join()


def _echo(line: socket.socket, exchange: Exchange) -> None:
    buffer = np.ones(exchange.share, np.float32).data.cast("B")
    with line:
        for _ in range(exchange.rounds + 1):
            _receive(line, buffer)
            line.sendall(buffer)


def _receive(line: socket.socket, buffer: memoryview) -> None:
    place = 0
    while place < len(buffer):
        place += line.recv_into(buffer[place:])


def _tcp_client(
    number: int, exchange: Exchange, ports: tuple[int, ...], barrier: Any, times: Any
) -> None:
    lines = [socket.create_connection(("127.0.0.1", port)) for port in ports]
    sent = np.ones(exchange.share, np.float32).data.cast("B")
    buffers = [np.ones(exchange.share, np.float32).data.cast("B") for _ in ports]

    def swap(server: int) -> None:
        lines[server].sendall(sent)
        _receive(lines[server], buffers[server])

    with ThreadPoolExecutor(len(ports)) as pool:
        _rounds(number, exchange, lambda: list(pool.map(swap, range(len(ports)))), barrier, times)
    for line in lines:
        line.close()


# torch's RPC

_served: Any = None
"""On a server: parameters, sums of squares, and the lock of both."""


def _torch_server(number: int, exchange: Exchange, ports: Any, meeting: str) -> None:
    import torch

    global _served
    _served = torch.zeros(exchange.share), torch.zeros(exchange.share), threading.Lock()
    ports.put(0)
    rpc = _torch_joined(f"server{number}", number, exchange, meeting)
    rpc.shutdown()


def _torch_apply(gradient: Any) -> Any:
    parameters, sums, lock = _served
    with lock:
        sums.addcmul_(gradient, gradient)
        parameters.addcdiv_(gradient, sums.sqrt(), value=-0.01)
        return parameters.clone()


def _torch_client(
    number: int,
    exchange: Exchange,
    ports: tuple[int, ...],
    barrier: Any,
    times: Any,
    meeting: str,
) -> None:
    import torch

    gradient = torch.full((exchange.share,), 1e-3)
    rpc = _torch_joined(f"client{number}", exchange.servers + number, exchange, meeting)

    def step() -> None:
        asked = [
            rpc.rpc_async(f"server{server}", _torch_apply, args=(gradient,))
            for server in range(exchange.servers)
        ]
        for one in asked:
            one.wait()

    _rounds(number, exchange, step, barrier, times)
    rpc.shutdown()


def _torch_joined(name: str, rank: int, exchange: Exchange, meeting: str) -> Any:
    from torch.distributed import rpc

    rpc.init_rpc(
        name,
        rank=rank,
        world_size=exchange.servers + exchange.clients,
        rpc_backend_options=rpc.TensorPipeRpcBackendOptions(init_method=meeting, rpc_timeout=120),
    )
    return rpc
