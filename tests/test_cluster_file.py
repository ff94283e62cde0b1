"""Cluster files: what they say, what they may not say, and that writing them loses nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.cluster import Cluster, Link, MachineSpec, Racks, Rates
from dbgraph.clusterfile import cluster_toml, parse_cluster, read_cluster
from dbgraph.errors import UsageError
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.ops.kinds import EXAMPLES
from dbgraph.units import read_quantity, write_quantity

EXAMPLE = Path(__file__).parent.parent / "examples" / "cluster.toml"


# Quantities


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("100 us", "s", 1e-4),
        ("100µs", "s", 1e-4),
        ("0.5 ms", "s", 5e-4),
        ("20 ns", "s", 2e-8),
        ("2 s", "s", 2.0),
        ("8 GiB", "B", 8 * 2**30),
        ("1.5 KiB", "B", 1536),
        ("64 GB", "B", 64e9),
        ("512 B", "B", 512),
        ("1 GB/s", "B/s", 1e9),
        ("10 Gbit/s", "B/s", 1.25e9),
        ("100 Mbit/s", "B/s", 12.5e6),
        ("3 GiB/s", "B/s", 3 * 2**30),
        ("50 GFLOP/s", "FLOP/s", 50e9),
        ("1.5e3 MFLOPS", "FLOP/s", 1.5e9),
        ("19.5 TFLOP/s", "FLOP/s", 19.5e12),
        ("-3 s", "s", -3.0),
    ],
)
def test_quantities(text: str, unit: str, value: float) -> None:
    assert read_quantity(text, unit) == value


@pytest.mark.parametrize(
    "text", ["", "fast", "5", "5 GB", "1 gb/s", "1 G B/s", "nan GB/s", ". B/s"]
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="such as '1 GB/s'"):
        read_quantity(text, "B/s")


@pytest.mark.parametrize("text", ["1e400 s", "1e99999999999999999999 s"])
def test_quantities_that_no_computer_holds(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        read_quantity(text, "s")


@given(
    st.floats(0, allow_infinity=False) | st.integers(0, 2**60).map(float),
    st.sampled_from(["s", "B", "B/s", "FLOP/s"]),
)
@settings(deadline=None)
def test_a_written_quantity_reads_as_the_same_number(value: float, unit: str) -> None:
    assert read_quantity(write_quantity(value, unit), unit) == value


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (50e9, "FLOP/s", "50 GFLOP/s"),
        (8 * 2**30, "B", "8 GiB"),
        (8e9, "B", "8 GB"),
        (1e-4, "s", "100 us"),
        (0.0, "s", "0 s"),
        (0.1 + 0.2, "s", "300.00000000000004 ms"),
        (1.25e8, "B/s", "125 MB/s"),
    ],
)
def test_quantities_are_written_for_people(value: float, unit: str, text: str) -> None:
    assert write_quantity(value, unit) == text


# What a file says


def test_the_example() -> None:
    cluster = read_cluster(EXAMPLE)
    assert [m.name for m in cluster.machines] == ["workstation"] * 4 + ["desktop"] * 4
    assert cluster.hosts == (0, 0, 1, 1, 2, 3, 4, 5)
    assert cluster.host_cores == (6, 6, 1, 1, 1, 1)
    assert cluster.machines[0].memory_bytes == 16 * 2**30
    assert cluster.machines[4].dtype_flop_s == (("float64", 25e9),)
    assert cluster.link == Link(bytes_s=1.25e8, latency_s=1e-4, message_s=2e-5)
    assert cluster.racks is None


def test_what_is_left_out_is_as_everywhere() -> None:
    assert parse_cluster("[[machines]]\ncount = 3") == Cluster.equal(3)


def test_everything() -> None:
    text = """
    [[machines]]
    name = "fast"
    flop_s = { float32 = 1e12, bfloat16 = "2 TFLOP/s" }
    memory = 1000
    memory_bytes_s = inf
    dispatch_s = 0
    cores = 2
    kinds = [{ kind = "matmul", dtype = "float32", flop_s = 9e11, memory_bytes_s = "1 GB/s" }]
    [[machines]]
    count = 3
    partitions_per_host = 2
    cores = 4
    host_cores = 6
    [[machines.kinds]]
    kind = "pool max gradient 0"
    flop_s = inf
    memory_bytes_s = 5
    start_s = "1 us"
    [link]
    bytes_s = 1
    [local]
    latency_s = 2
    [racks]
    hosts = 2
    bytes_s = "3 B/s"
    """
    fast = MachineSpec(
        name="fast",
        flop_s=1e12,
        dtype_flop_s=(("bfloat16", 2e12),),
        memory_bytes=1000.0,
        memory_bytes_s=inf,
        dispatch_s=0.0,
        cores=2,
        kinds=(("matmul", "float32", Rates(9e11, 1e9)),),
    )
    other = MachineSpec(cores=4, kinds=(("pool max gradient 0", "", Rates(inf, 5.0, 1e-6)),))
    found = parse_cluster(text)
    assert found.machines == (fast, other, other, other)
    assert found.hosts == (0, 1, 1, 2)
    assert found.host_cores == (2, 6, 6)
    assert found.link == replace(Link(), bytes_s=1.0)
    assert found.local == replace(Cluster(()).local, latency_s=2.0)
    assert found.racks == Racks(2, 3.0)


# Writing


_names = st.text(st.characters(codec="utf-8"), max_size=5).filter(str.isprintable)
_rates = st.floats(1e-3, 1e18) | st.just(inf)
_times = st.floats(0, 1e6)
_links = st.builds(Link, _rates, _times, _times)
_kinds = st.tuples(
    st.sampled_from(EXAMPLES),
    st.sampled_from(["", *DTYPE_BYTES]),
    st.builds(Rates, _rates, _rates, _times),
)
_specs = st.builds(
    MachineSpec,
    flop_s=_rates,
    memory_bytes_s=_rates,
    memory_bytes=_rates,
    dispatch_s=_times,
    cores=st.integers(1, 64),
    dtype_flop_s=st.dictionaries(
        st.sampled_from([d for d in DTYPE_BYTES if d != "float32"]), _rates, max_size=2
    ).map(lambda found: tuple(found.items())),
    kinds=st.lists(_kinds, max_size=2).map(tuple),
    name=_names,
)
_some_specs = st.lists(_specs, min_size=1, max_size=3)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Hosts in any number, each with machines of one kind."""
    specs = draw(_some_specs)
    hosts = draw(
        st.lists(st.tuples(st.sampled_from(specs), st.integers(1, 3)), min_size=1, max_size=6)
    )
    alone = all(size == 1 for _, size in hosts)
    host = tuple(h for h, (_, size) in enumerate(hosts) for _ in range(size))
    cores = st.lists(st.integers(1, 3), min_size=len(hosts), max_size=len(hosts)).map(tuple)
    return Cluster(
        machines=tuple(spec for spec, size in hosts for _ in range(size)),
        link=draw(_links),
        hosts=() if alone else host,
        host_cores=draw(st.just(()) | cores),
        pinned=draw(st.booleans()),
        crowding=draw(st.just(0.0) | st.floats(1e-3, 2)),
        driver_s=draw(_times),
        control_s=draw(_times),
        local=draw(_links),
        racks=draw(st.none() | st.builds(Racks, st.integers(1, 9), _rates)),
    )


@given(clusters())
@settings(max_examples=200, deadline=None)
def test_a_written_file_says_the_same(cluster: Cluster) -> None:
    assert parse_cluster(cluster_toml(cluster)) == cluster


def test_a_written_file_has_groups() -> None:
    text = cluster_toml(read_cluster(EXAMPLE))
    assert text.count("[[machines]]") == 2
    assert 'name = "workstation"\ncount = 4\nflop_s = "200 GFLOP/s"\n' in text
    assert 'latency_s = "100 us"' in text


@pytest.mark.parametrize("hosts", [(0, 1, 0), (1, 1, 2), (0, 0, 0)])
def test_hosts_that_no_file_can_say(hosts: tuple[int, ...]) -> None:
    machines = (MachineSpec(), MachineSpec(), MachineSpec(cores=2))
    with pytest.raises(UsageError, match=r"the machines of host \d differ, or do not stand"):
        cluster_toml(Cluster(machines, hosts=hosts))


# What a file may not say

GROUP = "[[machines]]\n"


def _measured(kind: str) -> str:
    return GROUP + f'kinds = [{{ kind = "{kind}", flop_s = 1, memory_bytes_s = 1 }}]'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[[machines]]\ncount = 0", 2, ["[[machines]] 1: count = 0", "whole number from 1"]),
        (GROUP + "count = 2.5", 2, ["count = 2.5", "whole number"]),
        (GROUP + "count = true", 2, ["count = True"]),
        (GROUP + "count = 100000000", 2, ["count = 100000000", "1,000,000"]),
        (GROUP + "\ncuont = 1", 3, ["[[machines]] 1: unknown key 'cuont'", "did you mean 'count'"]),
        (GROUP + "memory_bytes = 1", 2, ["unknown key 'memory_bytes'", "did you mean 'memory"]),
        (GROUP * 3 + 'memory = "-8 GiB"', 4, ["[[machines]] 3: memory = '-8 GiB'", "above 0"]),
        (GROUP + 'flop_s = "fast"', 2, ["flop_s = 'fast'", "such as '50 GFLOP/s'"]),
        (GROUP + "flop_s = [1]", 2, ["flop_s = [1]", "a number"]),
        (GROUP + "flop_s = nan", 2, ["flop_s = nan"]),
        (GROUP + "flop_s = { float64 = 1 }", 2, ["[[machines]] 1, flop_s: float32 is missing"]),
        (GROUP + "flop_s = { flaot32 = 1 }", 2, ["unknown key 'flaot32'", "mean 'float32'"]),
        (GROUP + f"flop_s = 1{'0' * 400}", 2, ["a number"]),
        (GROUP + "dispatch_s = -1", 2, ["dispatch_s = -1", "finite number from 0"]),
        (GROUP + "dispatch_s = inf", 2, ["dispatch_s = inf", "finite number from 0"]),
        (GROUP + "cores = 0", 2, ["cores = 0"]),
        (GROUP + "partitions_per_host = 0", 2, ["partitions_per_host = 0"]),
        (GROUP + "host_cores = 0", 2, ["host_cores = 0"]),
        ("pinned = 1\n" + GROUP, 1, ["pinned = 1", "true or false"]),
        ("crowding = -0.1\n" + GROUP, 1, ["crowding = -0.1", "from 0 on"]),
        ('crowding = "10 %"\n' + GROUP, 1, ["crowding = '10 %'", "a finite number"]),
        (GROUP + "name = 3", 2, ["name = 3", "text on one line"]),
        (GROUP + 'name = "a\\nb"', 2, ["name = 'a\\nb'"]),
        (GROUP + 'kinds = [{ kind = "a" }]', 2, ["[[machines]] 1, kinds: flop_s is missing"]),
        (GROUP + "kinds = [1]", 2, ["kinds = [1]"]),
        (_measured("mat mul"), 2, ["kind = 'mat mul': no work is of", "did you mean 'matmul'?"]),
        (_measured("matmul gradient 0"), 2, ["no work is of that kind"]),
        (_measured("pol max"), 2, ["did you mean 'pool max'?"]),
        (_measured("local gradient"), 2, ["did you mean 'local gradient"]),
        (_measured("xyz"), 2, ["known: pointwise, ", "local gradient 1"]),
        (
            GROUP + 'kinds = [{ kind = "a", dtype = "f32", flop_s = 1, memory_bytes_s = 1 }]',
            2,
            ["dtype = 'f32'", "float32"],
        ),
        (GROUP + "[link]\n# slow\nlatency_s = nan", 4, ["[link]: latency_s = nan"]),
        (GROUP + "[local]\nbytes_s = 0", 3, ["[local]: bytes_s = 0", "above 0"]),
        (GROUP + "[racks]\nhosts = 3", 2, ["[racks]: bytes_s is missing"]),
        (GROUP + "[racks]\n", 2, ["[racks]: hosts is missing"]),
        ("link = 1\n" + GROUP, 1, ["link = 1: expected a table, [link]"]),
        ("machines = 3", 1, ["machines = 3: expected tables, [[machines]]"]),
        ("[lnk]\nbytes_s = 1", 1, ["unknown key 'lnk'", "did you mean 'link'?"]),
    ],
)
def test_mistakes_are_told_at_their_line(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cluster(text, "my.toml")
    found = str(caught.value)
    assert found.startswith(f"my.toml:{line}: ")
    for word in words:
        assert word in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "my.toml has no machines"),
        ("[link]", "my.toml has no machines"),
        ("x", "my.toml is no TOML: "),
        ("[[machines]]\ncount = 1\ncount = 2", "my.toml is no TOML: "),
        ("x = " + "9" * 9000, "my.toml is no TOML: "),
        ("x = " + "[" * 100_000, "my.toml is no TOML: "),
    ],
)
def test_what_is_no_cluster_file(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cluster(text, "my.toml")
    assert str(caught.value).startswith(words)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_cluster(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is no text"):
        read_cluster(tmp_path / "bytes.toml")
    with pytest.raises(UsageError, match="directory"):
        read_cluster(tmp_path)


@given(st.text(max_size=60) | st.text(max_size=30).map(lambda text: GROUP + "count = " + text))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_cluster_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        assert parse_cluster(text).machines


# The first machines


def test_the_first_machines_keep_the_order_of_the_file() -> None:
    cluster = read_cluster(EXAMPLE)
    assert cluster.first(8) == cluster
    few = cluster.first(5)
    assert [m.name for m in few.machines] == ["workstation"] * 4 + ["desktop"]
    assert few.hosts == (0, 0, 1, 1, 2)
    assert few.host_cores == (6, 6, 1)
    assert cluster.first(0).machines == ()
    assert parse_cluster(cluster_toml(few)) == few


def test_more_partitions_than_machines() -> None:
    with pytest.raises(UsageError, match="the cluster has 8 machines, not 9"):
        read_cluster(EXAMPLE).first(9)
