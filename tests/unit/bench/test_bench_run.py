"""The whole of it, small: real servers, a cell of each kind, what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.run import GROUPS, main


def test_bench_cells_have_names_of_their_own() -> None:
    names = [(cell.group, cell.name) for group in GROUPS.values() for cell in group(False)]

    assert len(names) == len(set(names)) > 40


def test_bench_list_names_what_would_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--group", "single", "--only", "put, 1 client"]) == 0

    assert capsys.readouterr().out == "single: put, 1 client\n"


@pytest.mark.real
@pytest.mark.parametrize("cell", ["single: put, 1 client", "large: snapshot save by etcdctl"])
def test_bench_measures_both_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str) -> None:
    status = main(["--quick", "--seconds=0.2", "--keys=2000", "--json", f"--dir={tmp_path}", "--only", cell])

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [one["form"] for one in found] == ["uncompiled"]
    for one in found:
        assert all(figure["ours"] >= 0 and figure["etcd"] >= 0 for figure in one["figures"].values())
        assert one["bars"]
    assert not list(tmp_path.iterdir()), "data dirs are left behind"
