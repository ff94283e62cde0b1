"""`FILE.py:function`: imported by path; what goes wrong is told at the user's line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from dbgraph.errors import DataError, NetworkError, UsageError
from dbgraph.userfile import call, load_function


def write(folder: Path, text: str, name: str = "net.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_function_by_path(tmp_path: Path) -> None:
    path = write(tmp_path, "def network(): return 1\ndef other(): return 2\n")
    assert load_function(path)() == 1
    assert load_function(f"{path}:other")() == 2
    assert load_function(f"{path}:other") is load_function(f"{path}:other")


def test_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        write(tmp_path / str(n), f"def network(): return {n}\n")
    assert [load_function(str(tmp_path / str(n) / "net.py"))() for n in (1, 2)] == [1, 2]


def test_a_file_may_be_called_like_a_module(tmp_path: Path) -> None:
    path = write(tmp_path, "def network(): return 4\n", "random.py")
    assert load_function(path)() == 4
    import random

    assert random.randint(3, 3) == 3


def test_a_file_may_import_its_neighbour_and_have_dataclasses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(tmp_path, "WIDTH = 7\n", "neighbour_of_net.py")
    path = write(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "import neighbour_of_net\n@dataclass\nclass Size:\n    width: int\n"
        "def network(): return Size(neighbour_of_net.WIDTH).width\n",
    )
    assert load_function(path)() == 7


def test_its_functions_travel_to_processes_that_do_not_have_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "FACTOR = 3\ndef network(): return FACTOR * 2\n", "ships.py")
    shipped = cloudpickle.dumps(load_function(path))
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run([sys.executable, "-c", code], input=shipped, capture_output=True)
    assert done.stdout.strip() == b"6", done.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("net", r"'net' is not of the form FILE\.py:function"),
        ("net.txt:network", "not of the form"),
        ("net.py:", "not of the form"),
        ("net.py:a.b", "not of the form"),
        ("nowhere/net.py", "there is no folder 'nowhere' either"),
        ("digit.py", r"there is no file 'digit\.py'\n  did you mean 'digits\.py'\?"),
    ],
)
def test_a_spec_that_names_no_file(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "", "digits.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        load_function(spec)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nimport no_such_module_here\n", 2, "ModuleNotFoundError: No module named 'no_su"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError: division by zero"),
        ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
        ("x = 1\ndef network(:\n", 2, "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)\n", 1, "SystemExit: 3"),
        ("x = '\0'\n", 1, "SyntaxError"),
    ],
)
def test_a_file_that_does_not_import(text: str, line: int, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(NetworkError, match=rf"net\.py:{line}: the file .*{message}") as caught:
        load_function(path)
    assert caught.value.exit_code == 3
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DataError):  # a second time too, and as the kind that was asked for
        load_function(path, error=DataError)


def test_dbgraphs_own_errors_pass(tmp_path: Path) -> None:
    path = write(tmp_path, "from dbgraph.errors import UsageError\nraise UsageError('mine')\n")
    with pytest.raises(UsageError, match=r"^mine$"):
        load_function(path)


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, "def network(): pass\nsize = 3\n")
    with pytest.raises(NetworkError, match=r"no function 'netwrk'\n  did you mean 'network'\?"):
        load_function(f"{path}:netwrk")
    with pytest.raises(NetworkError, match=r"no function 'xyz'\n  write `def xyz"):
        load_function(f"{path}:xyz")
    with pytest.raises(NetworkError, match="'size' is of type int, not a function"):
        load_function(f"{path}:size")


def test_what_a_function_raises_is_told_at_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "def inner():\n    [].pop()\ndef network():\n    inner()\n")
    with pytest.raises(NetworkError, match=r"net\.py:2: network\(\) raised IndexError: pop from"):
        call(load_function(path))
    path = write(tmp_path, "x = 1\ndef network(size):\n    pass\n", "args.py")
    with pytest.raises(NetworkError, match=r"args\.py:2: network\(\) raised TypeError: .*'size'"):
        call(load_function(path))
    with pytest.raises(DataError, match=r"^len\(\) raised TypeError"):
        call(len, 3, error=DataError)
