"""`dbgraph summary`: a network's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import AS_JSON, NETWORK, load_network, print_json

if TYPE_CHECKING:
    from dbgraph.dsl.network import Network

_EPILOG = """\b
Examples:
  dbgraph summary digits.py
  dbgraph summary digits.py:network --json
"""


@click.command(name="summary", epilog=_EPILOG)
@NETWORK
@AS_JSON
def summary(spec: str, as_json: bool) -> None:
    """Show the layers, shapes, parameters and FLOPs of a network.

    FILE.py:FUNCTION names a function that returns a dbg.Network; FUNCTION is `network` unless it
    is given.
    """
    network = load_network(spec)
    if as_json:
        print_json(_summary(network))
    else:
        click.echo(network.table())


def _summary(network: Network) -> dict[str, Any]:
    """Keys: name, batch, dtype, seed, fingerprint, parameters, layers (name, kind, shape per
    example, parameters, flop per batch)."""
    from dbgraph.dsl.summary import rows

    lines = rows(network)
    return {
        "name": network.name,
        "batch": network.batch,
        "dtype": network.dtype,
        "seed": network.seed,
        "fingerprint": network.fingerprint,
        "parameters": sum(row.parameters for row in lines),
        "layers": [
            {
                "name": row.name,
                "kind": row.kind,
                "shape": None if row.shape is None else list(row.shape),
                "parameters": row.parameters,
                "flop": row.flops,
            }
            for row in lines
        ],
    }
