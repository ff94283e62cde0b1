"""`dbgraph report`: the file that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import at, start, whole, write

from dbgraph.cli import run
from dbgraph.watch.fold import fold
from dbgraph.watch.job import as_json
from dbgraph.watch.page import dashboard, report


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    write(folder / "log.jsonl", whole())
    return folder


def test_one_run(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    assert run(["report", str(job), "-o", str(target)]) == 0
    assert "wrote" in capsys.readouterr().err
    text = target.read_text()
    (shown,) = data_of(text)["runs"]
    assert shown == {"name": "a", **json.loads(json.dumps(as_json(fold(whole()))))}
    assert "<title>digits: training</title>" in text
    assert run(["report", str(job), "--quiet"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == text.rstrip("\n")


def test_several_runs_are_told_apart(job: Path, tmp_path: Path) -> None:
    same = tmp_path / "other" / "a"
    same.mkdir(parents=True)
    write(same / "log.jsonl", whole(200))
    log = write(tmp_path / "b.jsonl", whole(300))
    target = tmp_path / "report.html"
    assert run(["report", str(job), f"{same}/", str(log), "-o", str(target), "--quiet"]) == 0
    runs = data_of(target.read_text())["runs"]
    assert [one["name"] for one in runs] == [str(job), f"{same}/", "b"]
    assert [one["step"] for one in runs] == [400, 200, 300]


def test_the_page_is_one_file_that_asks_for_nothing() -> None:
    for text in (report([("a", fold(whole()))]), dashboard()):
        assert not re.search(r"(src|href)=\"?(?!data:)[a-z/]", text)
        assert "http://www.w3.org/2000/svg" in text, "a name, not an address"
        assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
        assert "default-src 'none'" in text


def test_names_can_not_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)</script>"
    text = report([(evil, fold([start(network=evil), at("train", 10, loss=1.0)]))])
    assert text.count("<script>alert") == 0
    assert data_of(text)["runs"][0]["name"] == evil


def test_what_can_not_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path / "none")]) == 2
    assert "there is no log of a run" in capsys.readouterr().err
    assert run(["report"]) == 2
    write(tmp_path / "log.jsonl", whole(50))
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "no" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
