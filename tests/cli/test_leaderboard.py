"""The command `leaderboard`: several runs, filters, orders, and its forms for other programs."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest

import primer_search
from primer_search.search.results.selection.row_fields import FIELDS
from primer_search.tests.support.command import HandmadeRun, command, refused

PACKAGE = Path(primer_search.__file__).parent


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    a, b = HandmadeRun(tmp_path / "a", (3.0, 2.98, 3.02)), HandmadeRun(tmp_path / "b", (4.0, 3.98, 4.02))
    for loss in (2.5, 2.95):
        a.child("PRIMER_EZ", loss, mutation="Insert in relu: x2 = SQUARE(x|y_z)")
    b.child("PRIMER", 3.6)
    return a.path, b.path


def test_several_runs_are_one_table_with_a_column_for_the_run(runs: tuple[Path, Path]) -> None:
    out = command("leaderboard", *runs).out
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(("a ", "b "))]
    assert rows[:3] == [["a", "1", "#1"], ["b", "1", "#1"], ["a", "2", "#2"]]
    assert "-0.2500" in out and "-0.2000" in out, "each against the baseline of its own run"
    assert out.count("Candidate 1 is") == 2
    assert "UNCONFIRMED (a, b)" in out


def test_rows_are_filtered_and_sorted(runs: tuple[Path, Path]) -> None:
    out = command("leaderboard", *runs, "--where", "not better", "--where", "loss<3", "--sort", "-loss").out
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(("a ", "b "))]
    assert rows[0] == ["a", "2", "#2"], "the baseline is filtered like any other row"
    assert "no candidate meets the conditions" in command("leaderboard", runs[0], "--confirmed").out


def test_csv_has_all_fields_in_full_precision(runs: tuple[Path, Path]) -> None:
    result = command("leaderboard", *runs, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert list(rows[0]) == [field.name for field in FIELDS]
    json_rows = command("leaderboard", *runs, "--json").json["candidates"]
    assert len(rows) == len(json_rows) == 5
    for row, expected in zip(rows, json_rows, strict=True):
        assert (row["run"], int(row["id"])) == (expected["run"], expected["id"])
        assert float(row["delta_nats"]) == expected["delta_nats"]
        assert row["equal_time_delta_nats"] == ""
        assert row["confirmed"] == "false"


def test_markdown_is_a_table_that_names_what_it_compares_with(runs: tuple[Path, Path]) -> None:
    lines = command("leaderboard", *runs, "--format", "md", "--top", "2").out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[0].startswith("| run | rank | id | loss nats | bits/byte | vs baseline | noise |")
    assert len(table) == 2 + 2 + 2, "the head, the rows and both baselines"
    assert "SQUARE(x\\|y\\_z)" in table[2]
    assert any(line.startswith("a: baseline 3.0000") for line in lines)


def test_a_narrow_table_keeps_the_ends_of_names_which_tell_runs_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    named = [tmp_path / f"20261130-08212{seed}-seed{seed}" for seed in range(2)]
    for folder in named:
        HandmadeRun(folder).child("PRIMER_EZ", 2.6)
    names = [line.split()[0] for line in command("leaderboard", *named).out.splitlines() if line.startswith("…")]
    assert len(names) == 4 and {name[-5:] for name in names} == {"seed0", "seed1"}


def test_json_of_one_run_keeps_its_form(runs: tuple[Path, Path]) -> None:
    one = command("leaderboard", runs[0], "--json").json
    assert one["run"] == str(runs[0]) and [row["id"] for row in one["candidates"]] == [1, 2, 0]
    filtered = command("leaderboard", runs[0], "--json", "--where", "better").json
    assert [row["id"] for row in filtered["candidates"]] == [1]
    assert filtered["totals"] == one["totals"], "the run's totals count all candidates"
    several = command("leaderboard", *runs, "--format", "json").json
    assert [each["run"] for each in several["runs"]] == [str(run) for run in runs]


def test_wrong_fields_are_refused_before_a_run_is_read() -> None:
    assert "did you mean loss?" in refused("leaderboard", "no/such/run", "--sort", "lss")
    assert "did you mean price?" in refused("leaderboard", "no/such/run", "--where", "pric<1")
    assert "--format" in refused("leaderboard", "no/such/run", "--format", "xml")


def test_the_page_of_the_leaderboard_lists_all_fields() -> None:
    page = PACKAGE / "docs" / "leaderboard.md"
    head, mark, _ = page.read_text(encoding="utf-8").partition("|---|---|---|---|\n")
    table = "".join(
        f"| `{field.name}` | {f'`{field.short}`' if field.short else ''} | {field.kind} | {field.about} |\n"
        for field in FIELDS
    )
    if os.environ.get("PRIMER_SEARCH_WRITE_DOCS"):
        page.write_text(head + mark + table, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == head + mark + table, "run this test with PRIMER_SEARCH_WRITE_DOCS=1"
