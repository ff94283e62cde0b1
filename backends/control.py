"""How another program on this host speaks to a run: a socket that its owner alone can reach.

In the run's folder there is a file `control.json`, which says where the socket is. The socket lies
in a folder of mode 0700 (sockets can't lie on every file system, nor have long paths), so that no
key is needed: nobody but the run's user gets there. A request is a line of JSON, and so is its
answer.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dbgraph.backends.processes import look_at
from dbgraph.backends.zeromq_folder import JobFolder, remove_if_left
from dbgraph.errors import RunError, UsageError

FILE = "control.json"
Request = dict[str, Any]
Answer = dict[str, Any]
Handle = Callable[[Request], Answer]

_LOOK_S = 0.05
_PATIENCE_S = 10.0
_LONGEST_BYTES = 1 << 16
_LONGEST_ANSWER_BYTES = 1 << 26


@contextmanager
def controllable(folder: Path, handle: Handle) -> Iterator[None]:
    """Answers requests, in a thread, until the block ends.

    Args:
        folder: the run's; there already.
        handle: takes a request; what UsageError it raises is answered as {"error", "hint"}.
    """
    note = folder / FILE
    with suppress(OSError, ValueError, KeyError):  # of a run that was killed
        remove_if_left(os.path.dirname(json.loads(note.read_text())["socket"]))
    place = JobFolder()
    path = f"{place.path}/control"
    server = _Server(path, handle)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), daemon=True)
    thread.start()
    text = json.dumps({"socket": path, "pid": os.getpid(), "host": socket.gethostname()})
    try:
        note.write_text(text + "\n")
        yield
    finally:
        with suppress(OSError):  # first: a second Ctrl-C may come at any time
            if note.read_text().strip() == text:
                note.unlink()
        server.shutdown()
        server.server_close()
        place.remove()


def ask(folder: Path, request: Request, patience_s: float = _PATIENCE_S) -> Answer:
    """Asks the run of a folder.

    Raises UsageError where none goes on there, or it refuses; RunError where it does not answer.
    """
    note = _note(folder)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(patience_s)
            line.connect(note["socket"])
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as file:
                answer = json.loads(file.readline(_LONGEST_ANSWER_BYTES))
    except TimeoutError:
        rule = f"the run in {folder} does not answer within {patience_s:g} s"
        word, alive = look_at(note["pid"])
        hint = f"its process {note['pid']} is {word}" if not alive else "is its host very busy?"
        raise RunError(rule, hint=hint) from None
    except (OSError, ValueError):
        raise _over(folder, note) from None
    if "error" in answer:
        raise UsageError(answer["error"], hint=answer["hint"])
    return dict(answer)


def _note(folder: Path) -> dict[str, Any]:
    """Where the run of a folder can be asked. Raises UsageError where none says so."""
    try:
        note = json.loads((folder / FILE).read_text())
        return {"host": "", "pid": 0, **note, "socket": str(note["socket"])}
    except (OSError, ValueError, KeyError, TypeError):
        hint = "name the folder that was given by --checkpoint to a `dbgraph train` that is running"
        missing = "" if folder.is_dir() else ": there is no such folder"
        raise UsageError(f"no run goes on in {folder}{missing}", hint=hint) from None


def _over(folder: Path, note: dict[str, Any]) -> UsageError:
    """What a run has left that nobody answers for."""
    here = socket.gethostname()
    rule = f"no run goes on in {folder}"
    if note["host"] not in ("", here):
        return UsageError(
            f"{rule} on this host", hint=f"it was begun on {note['host']}: ask it there"
        )
    return UsageError(f"{rule}: its process {note['pid']} has ended without a word")


class _Server(socketserver.UnixStreamServer):
    def __init__(self, path: str, handle: Handle) -> None:
        self.handle_control = handle
        super().__init__(path, _Asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left before its answer is no matter to the run."""


class _Asked(socketserver.StreamRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def handle(self) -> None:
        try:
            answer = self.server.handle_control(json.loads(self.rfile.readline(_LONGEST_BYTES)))
        except UsageError as error:
            answer = {"error": error.rule, "hint": error.hint}
        self.wfile.write(json.dumps(answer).encode() + b"\n")
