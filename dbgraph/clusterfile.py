"""The cluster file: the machines and links that a plan is made for.

    driver_s = "1 ms"               # what a step takes beside its machines' programs
    control_s = "200 us"            # and what each machine adds to that: its orders, its answer
    pinned = false                  # true: each machine of a host runs on one core alone, in turn
    crowding = 0.1                  # a busy machine of a host makes all others there so much slower

    [[machines]]                    # a group of equal machines; partitions take them in this order
    name = "office"
    count = 4                       # of machines; each runs one partition
    flop_s = "50 GFLOP/s"           # or for each dtype: { float32 = "50 GFLOP/s", float64 = … }
    memory = "8 GiB"                # of one machine
    memory_bytes_s = "10 GB/s"
    dispatch_s = "60 us"            # to start one segment
    cores = 1                       # that a running segment keeps busy
    partitions_per_host = 1         # so many of these machines stand on one host
    host_cores = 1                  # of that host; else as many as its machines keep busy
    kinds = [                       # measured: what a kind of work (`ops.kinds`) runs at
      { kind = "matmul", dtype = "float32", flop_s = …, memory_bytes_s = …, start_s = … },
    ]

    [link]                          # between hosts; [local] is the same inside one host
    bytes_s = "1 GB/s"              # of each host's line, in each direction
    latency_s = "100 us"
    message_s = "20 us"             # that a message occupies its sender, and its receiver
    byte_s = "0.5 ns"               # and further for each of its bytes

    [racks]                         # where a rack's uplink is narrower than its hosts' lines
    hosts = 16
    bytes_s = "4 GB/s"

What is left out is as `MachineSpec`, `Link` and `Cluster` have it. A number without a unit counts
in bytes, seconds, FLOP/s. Machines of one host share its cores and its line; memory is each
machine's own.
"""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import groupby
from math import inf
from pathlib import Path

from dbgraph.cluster import Cluster, Link, MachineSpec, Racks, Rates
from dbgraph.errors import UsageError
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.ops.kinds import EXAMPLES, is_kind
from dbgraph.suggest import did_you_mean
from dbgraph.tomltable import Table, parse_toml
from dbgraph.units import write_quantity

_PARTS = ("machines", "link", "local", "racks")
_MOST = 1_000_000  # machines, cores, hosts: what is above is a slip
_MACHINE = MachineSpec()
_KEYS = (
    *("name", "count", "flop_s", "memory", "memory_bytes_s", "dispatch_s", "cores"),
    *("partitions_per_host", "host_cores", "kinds"),
)


def read_cluster(path: str | Path) -> Cluster:
    """Raises UsageError with what is wrong with the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"can't read the cluster file {path}: {reason}") from None
    return parse_cluster(text, str(path))


def parse_cluster(text: str, path: str = "cluster.toml") -> Cluster:
    """The inverse of `cluster_toml`. Args: path: for errors. Raises UsageError."""
    file = parse_toml(text, path)
    file.check_keys(("driver_s", "control_s", "pinned", "crowding", *_PARTS))
    groups = [_group(table) for table in file.tables("machines")]
    if not groups:
        hint = 'such as: [[machines]] count = 4, flop_s = "50 GFLOP/s", memory = "8 GiB"'
        raise UsageError(f"{path} has no machines", hint=hint)
    blank = Cluster(())
    return Cluster(
        machines=tuple(spec for spec, hosts, _ in groups for size in hosts for _ in range(size)),
        link=_link(file.table("link"), blank.link),
        hosts=_hosts([size for _, hosts, _ in groups for size in hosts]),
        host_cores=_host_cores(groups),
        pinned=file.flag("pinned", blank.pinned),
        crowding=file.number("crowding", blank.crowding),
        local=_link(file.table("local"), blank.local),
        racks=_racks(file.table("racks")) if "racks" in file.values else None,
        driver_s=file.amount("driver_s", "s", blank.driver_s),
        control_s=file.amount("control_s", "s", blank.control_s),
    )


_Group = tuple[MachineSpec, list[int], int | None]
"""A kind of machine, how many stand on each of its hosts, and the cores of these."""


def _group(table: Table) -> _Group:
    table.check_keys(_KEYS)
    count = table.whole("count", _MOST, 1)
    together = table.whole("partitions_per_host", _MOST, 1)
    full, rest = divmod(count, together)
    cores = table.whole("host_cores", _MOST) if "host_cores" in table.values else None
    return _machine(table), [together] * full + [rest] * (rest > 0), cores


def _machine(table: Table) -> MachineSpec:
    flop_s, dtype_flop_s = _flop_s(table)
    return MachineSpec(
        flop_s=flop_s,
        memory_bytes_s=table.rate("memory_bytes_s", "B/s", _MACHINE.memory_bytes_s),
        memory_bytes=table.rate("memory", "B", _MACHINE.memory_bytes),
        dispatch_s=table.amount("dispatch_s", "s", _MACHINE.dispatch_s),
        cores=table.whole("cores", _MOST, _MACHINE.cores),
        dtype_flop_s=dtype_flop_s,
        kinds=tuple(_kind(entry) for entry in table.inner("kinds")),
        name=table.text("name", _MACHINE.name),
    )


def _flop_s(table: Table) -> tuple[float, tuple[tuple[str, float], ...]]:
    """(of float32, of other dtypes)."""
    if not isinstance(table.values.get("flop_s"), dict):
        return table.rate("flop_s", "FLOP/s", _MACHINE.flop_s), ()
    (inner,) = table.inner("flop_s")
    inner.check_keys(DTYPE_BYTES)
    found = {dtype: inner.rate(dtype, "FLOP/s") for dtype in ("float32", *inner.values)}
    return found.pop("float32"), tuple(found.items())


def _kind(table: Table) -> tuple[str, str, Rates]:
    table.check_keys(("kind", "dtype", *(field.name for field in fields(Rates))))
    dtype = table.text("dtype", "")
    if dtype and dtype not in DTYPE_BYTES:
        raise table.error("dtype", f"expected one of {', '.join(DTYPE_BYTES)}")
    rates = Rates(
        flop_s=table.rate("flop_s", "FLOP/s"),
        memory_bytes_s=table.rate("memory_bytes_s", "B/s"),
        start_s=table.amount("start_s", "s", 0.0),
    )
    return _known_kind(table), dtype, rates


def _known_kind(table: Table) -> str:
    """A word that no work is called would be without effect."""
    kind = table.text("kind")
    if not is_kind(kind):
        hint = did_you_mean(kind, EXAMPLES) or f"known: {', '.join(EXAMPLES)}"
        raise table.error("kind", "no work is of that kind", hint)
    return kind


def _link(table: Table, default: Link) -> Link:
    table.check_keys(field.name for field in fields(Link))
    return Link(
        bytes_s=table.rate("bytes_s", "B/s", default.bytes_s),
        latency_s=table.amount("latency_s", "s", default.latency_s),
        message_s=table.amount("message_s", "s", default.message_s),
        byte_s=table.amount("byte_s", "s", default.byte_s),
    )


def _racks(table: Table) -> Racks:
    table.check_keys(field.name for field in fields(Racks))
    return Racks(table.whole("hosts", _MOST), table.rate("bytes_s", "B/s"))


def _hosts(sizes: list[int]) -> tuple[int, ...]:
    """Args: sizes: the number of machines on each host. Empty where each has its own."""
    if all(size == 1 for size in sizes):
        return ()
    return tuple(host for host, size in enumerate(sizes) for _ in range(size))


def _host_cores(groups: list[_Group]) -> tuple[int, ...]:
    if all(cores is None for _, _, cores in groups):
        return ()
    return tuple(cores or spec.cores * size for spec, hosts, cores in groups for size in hosts)


def cluster_toml(cluster: Cluster) -> str:
    """The file's text. Plain text: only numbers and names are written, and the one line for each
    measured kind is what no library for TOML would keep.

    Raises UsageError where machines of one host differ, or do not stand side by side.
    """
    parts = _step_toml(cluster)
    parts += [_group_toml(*group) for group in _grouped(cluster)]
    parts += [_link_toml("link", cluster.link), _link_toml("local", cluster.local)]
    if cluster.racks is not None:
        bytes_s = _amount(cluster.racks.bytes_s, "B/s")
        parts.append(f"[racks]\nhosts = {cluster.racks.hosts}\nbytes_s = {bytes_s}\n")
    return "\n".join(parts)


def _step_toml(cluster: Cluster) -> list[str]:
    """What is of no machine and no link, where there is something to say."""
    lines = [f"driver_s = {_amount(cluster.driver_s, 's')}"] if cluster.driver_s else []
    lines += [f"control_s = {_amount(cluster.control_s, 's')}"] if cluster.control_s else []
    lines += ["pinned = true"] if cluster.pinned else []
    lines += [f"crowding = {cluster.crowding!r}"] if cluster.crowding else []
    return ["\n".join(lines) + "\n"] if lines else []


def _grouped(cluster: Cluster) -> list[_Group]:
    """Hosts alike, and at the end of them perhaps one that is not full."""
    groups: list[_Group] = []
    hosts = [cluster.host(p) for p in range(len(cluster.machines))]
    for number, (host, some) in enumerate(groupby(range(len(hosts)), key=hosts.__getitem__)):
        specs = [cluster.machines[p] for p in some]
        if host != number or len(set(specs)) != 1:
            raise UsageError(
                f"the machines of host {host} differ, or do not stand side by side",
                hint="a cluster file has groups of equal machines, host by host",
            )
        cores = cluster.host_cores[host] if cluster.host_cores else None
        if groups and _goes_on(groups[-1], specs, cores):
            groups[-1][1].append(len(specs))
        else:
            groups.append((specs[0], [len(specs)], cores))
    return groups


def _goes_on(group: _Group, specs: list[MachineSpec], cores: int | None) -> bool:
    """Whether a host may be the next of a group's: none stands behind one that is not full."""
    spec, sizes, known = group
    return (spec, known) == (specs[0], cores) and sizes[0] == sizes[-1] >= len(specs)


def _group_toml(spec: MachineSpec, sizes: list[int], cores: int | None) -> str:
    lines = ["[[machines]]", f"name = {_text(spec.name)}"] if spec.name else ["[[machines]]"]
    lines += [
        f"count = {sum(sizes)}",
        f"flop_s = {_flop_s_toml(spec)}",
        f"memory = {_amount(spec.memory_bytes, 'B')}",
        f"memory_bytes_s = {_amount(spec.memory_bytes_s, 'B/s')}",
        f"dispatch_s = {_amount(spec.dispatch_s, 's')}",
        f"cores = {spec.cores}",
    ]
    lines += [f"partitions_per_host = {sizes[0]}"] if sizes[0] > 1 else []
    lines += [f"host_cores = {cores}"] if cores is not None else []
    if spec.kinds:
        lines += ["kinds = [", *(f"  {_kind_toml(*kind)}," for kind in spec.kinds), "]"]
    return "\n".join(lines) + "\n"


def _flop_s_toml(spec: MachineSpec) -> str:
    if not spec.dtype_flop_s:
        return _amount(spec.flop_s, "FLOP/s")
    rates = (("float32", spec.flop_s), *spec.dtype_flop_s)
    return "{ " + ", ".join(f"{dtype} = {_amount(rate, 'FLOP/s')}" for dtype, rate in rates) + " }"


def _kind_toml(kind: str, dtype: str, rates: Rates) -> str:
    parts = [f"kind = {_text(kind)}", *([f"dtype = {_text(dtype)}"] if dtype else [])]
    parts += [
        f"flop_s = {_amount(rates.flop_s, 'FLOP/s')}",
        f"memory_bytes_s = {_amount(rates.memory_bytes_s, 'B/s')}",
        f"start_s = {_amount(rates.start_s, 's')}",
    ]
    return "{ " + ", ".join(parts) + " }"


def _link_toml(name: str, link: Link) -> str:
    return (
        f"[{name}]\n"
        f"bytes_s = {_amount(link.bytes_s, 'B/s')}\n"
        f"latency_s = {_amount(link.latency_s, 's')}\n"
        f"message_s = {_amount(link.message_s, 's')}\n"
        f"byte_s = {_amount(link.byte_s, 's')}\n"
    )


def _amount(value: float, unit: str) -> str:
    return "inf" if value == inf else _text(write_quantity(value, unit))


def _text(value: str) -> str:
    """A basic string: of printable characters JSON's are the same."""
    return json.dumps(value, ensure_ascii=False)
