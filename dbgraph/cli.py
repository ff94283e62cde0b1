"""The command line: `dbgraph COMMAND`. It loads a command's module only when that is called for,
so that `dbgraph --help` stays fast."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

import click

from dbgraph import __version__
from dbgraph.errors import DbgraphError

COMMANDS: Mapping[str, str] = {
    "summary": "Show the layers, shapes, parameters and FLOPs of a network.",
    "compile": "Cut a network for N machines and make its plan.",
    "show": "Show a plan: as a table, a drawing, or for other programs.",
    "diff": "Say what moves from one plan to another, and what it costs.",
    "explain": "Say what bounds a plan's step, and why each transfer exists.",
    "calibrate": "Measure this host, or listed ones, as machines to plan for.",
    "profile": "Time a plan's segments on this host.",
    "verify": "Check a plan: its rules, deadlocks, and its numbers.",
    "simulate": "Simulate a step: its time, who waits, what fits.",
    "train": "Train a network on one machine or many.",
    "replicas": "See, add and remove the replicas of a run that goes on.",
    "metrics": "Print a run's numbers for Prometheus, or a dashboard for Grafana.",
    "top": "Show how a run is doing, from another terminal.",
    "report": "Show runs as a page, beside each other.",
    "doctor": "Say which machine of a run waits for what, and who holds it up.",
    "run": "Compute a network's outputs for given arrays.",
    "worker": "Wait on this host for a partition of a job.",
    "key": "Make the key file that the hosts of a job share.",
}
"""Each is the command of that name in `dbgraph.commands.NAME`."""

_EPILOG = """\b
Examples:
  dbgraph compile examples/digits.py:network --partitions 4 -o digits.plan
  dbgraph show digits.plan --svg -o digits.svg
  dbgraph verify digits.plan --numerics
  dbgraph train examples/digits.py --partitions 4 --backend zmq

Exit codes: 0 done, 1 the run failed, 2 usage, 3 an invalid network or plan,
4 no feasible cut, 5 the cluster was lost, 130 interrupted.
"""
_INTERRUPTED, _PIPE_CLOSED = 130, 141
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Lazy(click.Group):
    """A group that knows its commands' names and short helps, and loads them on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dbgraph.commands.{cmd_name}")
        commands = (v for v in vars(module).values() if isinstance(v, click.Command))
        return next(command for command in commands if command.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from dbgraph.suggest import did_you_mean

            near = did_you_mean(args[0], COMMANDS) or f"the commands are: {', '.join(COMMANDS)}"
            ctx.fail(f"there is no command {args[0]!r}; {near}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dbgraph %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks (so does DBGRAPH_DEBUG=1).")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Compile a neural network into programs for many machines, see and check the plan before it
    runs, and train it."""


def main(argv: Sequence[str] | None = None) -> None:
    """The program `dbgraph`. Exits with the codes that `--help` lists."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command line; prints what goes wrong; returns the exit code."""
    if "_DBGRAPH_COMPLETE" in os.environ:  # a shell asks for completions
        cli.main(argv, prog_name="dbgraph")
    debug = bool(os.environ.get("DBGRAPH_DEBUG")) or argv[:1] == ["--debug"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no × or →
    try:
        _invoke(argv)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("dbgraph: interrupted", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read the output has enough. Nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _PIPE_CLOSED
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _report(error, argv)
    return 0


def _invoke(argv: list[str]) -> None:
    color = False if os.environ.get("NO_COLOR") else None
    try:
        with cli.make_context("dbgraph", list(argv), color=color) as context:
            cli.invoke(context)
    finally:
        sys.stdout.flush()


def _report(error: Exception, argv: list[str]) -> int:
    """Says what went wrong, without a traceback."""
    if isinstance(error, DbgraphError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        _say(f"{where}{reason}")
        return 1
    if isinstance(error, MemoryError):
        _say("out of memory\n  use more partitions, or a smaller batch")
        return 1
    command = " ".join(["dbgraph", "--debug", *(a for a in argv if a != "--debug")])
    _say(
        f"internal error: {type(error).__name__}: {error}\n"
        f"  this is a fault of dbgraph's own; `{command}` shows where"
    )
    return 1


def _say(message: str) -> None:
    label = click.style("error:", fg="red", bold=True)
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(f"dbgraph: {label} {message}", err=True, color=color)


if __name__ == "__main__":
    main()
