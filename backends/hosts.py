"""The hosts file: where workers listen that a user has started.

    # hosts.toml
    driver = "tcp://10.0.0.1:7000"       # where the workers reach the driver; may be left out

    [[host]]
    address = "tcp://10.0.0.2:7000"      # dbgraph worker --listen tcp://10.0.0.2:7000 --key FILE

    [[host]]
    address = "tcp://10.0.0.3:7000"

Partition 0 runs on the first host, partition 1 on the second, and so on. A machine may be
listed several times, with a port for each worker on it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path

from dbgraph.errors import UsageError

_ENDPOINT = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5}|\*)")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where everybody listens.

    Attributes:
        workers: by partition.
        driver: the driver's own address; "" to find it out.
    """

    workers: tuple[str, ...]
    driver: str = ""


def read_hosts(path: str | Path) -> Hosts:
    """Raises UsageError with what is wrong with the file."""
    try:
        text = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"can't read the hosts file {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    return _parse(path, text)


def _parse(path: str | Path, text: dict[str, object]) -> Hosts:
    hint = 'a hosts file has entries such as: [[host]] address = "tcp://10.0.0.2:7000"'
    unknown = sorted(set(text) - {"driver", "host"})
    if unknown:
        raise UsageError(f"{path}: unknown {', '.join(unknown)}", hint=hint)
    entries = text.get("host", [])
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path} lists no host", hint=hint)
    workers = []
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"address"}:
            raise UsageError(f"{path}: a host is {entry!r}, expected an address alone", hint=hint)
        workers.append(_checked(path, entry["address"]))
    twice = sorted({w for w in workers if workers.count(w) > 1})
    if twice:
        raise UsageError(f"{path}: {twice[0]} is listed twice", hint="one port for each worker")
    driver = _checked(path, text["driver"]) if "driver" in text else ""
    return Hosts(tuple(workers), driver)


def _checked(path: str | Path, address: object) -> str:
    if not isinstance(address, str):
        raise UsageError(f"{path}: {address!r} is no address such as tcp://10.0.0.2:7000")
    host, port = split_endpoint(address)
    if port == 0:
        raise UsageError(f"{path}: {address} names no port")
    if host in ("0.0.0.0", "[::]"):
        raise UsageError(f"{path}: others can't reach {address}", hint="name the machine's own")
    return f"tcp://{host}:{port}"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`tcp://HOST:PORT` → (host, port); the port `*` is 0, for any. Raises UsageError."""
    found = _ENDPOINT.fullmatch(endpoint)
    port = int(found[2]) if found and found[2] != "*" else 0
    if not found or port > 65535:
        raise UsageError(f"{endpoint!r} is no address such as tcp://10.0.0.2:7000")
    return found[1], port


def is_loopback(endpoint: str) -> bool:
    """Whether nobody outside this host can reach an address."""
    host = split_endpoint(endpoint)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_address_towards(endpoint: str) -> str:
    """The address of this host's interface from which `endpoint` is reached. Sends nothing."""
    host, port = split_endpoint(endpoint)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host.strip("[]"), port or 9))
        except OSError as error:
            raise UsageError(f"{endpoint} can't be reached: {error.strerror}") from None
        own = str(probe.getsockname()[0])
    return f"[{own}]" if family == socket.AF_INET6 else own
