"""The report as Markdown and its figures as files: the same numbers, whole files, and a reason if there are none."""

from __future__ import annotations

import builtins
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.search.reports.figures.figure_files import write_figures
from primer_search.search.reports.figures.static_figures import confirmation_plot, prediction_plot
from primer_search.search.reports.pages.run_markdown import render_markdown, write_markdown
from primer_search.search.reports.pages.run_page import render_report
from primer_search.search.reports.phrases import headline, search_leader
from primer_search.search.reports.tables.leaderboard_table import next_commands
from primer_search.search.results.leaderboard import leaderboard, leading_candidate
from primer_search.search.results.program_reference import find_candidate_id
from primer_search.tests.support.command import HandmadeRun, command, refused


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> HandmadeRun:
    run = HandmadeRun(tmp_path_factory.mktemp("runs") / "a_run")
    run.child("PRIMER_EZ", 2.6)
    run.child("TRANSFORMER_PP", 2.95, mutation="Insert in <b>relu|</b>: x2 = ABS(h0)", parent=1)
    run.child("PRIMER", 4.0, "stopped_at_hurdle")
    return run


@pytest.fixture(scope="module")
def confirmed_run(tmp_path_factory: pytest.TempPathFactory) -> HandmadeRun:
    run = HandmadeRun(tmp_path_factory.mktemp("runs") / "confirmed")
    run.child("PRIMER_EZ", 2.6)
    run.confirm(0, 1.5)
    run.confirm(1, 1.3)
    return run


def test_the_markdown_has_the_headline_the_table_and_how_it_was_run(run: HandmadeRun) -> None:
    lines = render_markdown(run.store).splitlines()
    assert lines[:2] == ["# Search a\\_run", ""]
    assert lines[2] == f"**{headline(leaderboard(run.store))}**"
    assert lines[4].startswith("> Unconfirmed: each loss comes from one training or a few")
    for line in (
        "| rank | id | loss nats | bits/byte | vs baseline | noise | speed | parameters | mutations, newest first |",
        "| --: | :-- | --: | --: | --: | --: | --: | --: | :-- |",
        "| 1 | #1 | 2.6000 | 1.3000 | -0.2000 | inside | 1.00× | 165,120 | relu: − x2 = ABS(h0) (+1) |",
        "| 3 | baseline | 3.0000 | 1.5000 | – | – | 1.00× | 165,120 | the program the search started from |",
        "## The best program, #1",
        "+    x2 = DCONV_3X1(x2)",
        "## How it was run",
        "| random seed | 0 |",
        "trial.budget_seconds = 30.0",
    ):
        assert line in lines or line.replace("x2 = DCONV", "x3 = DCONV") in lines, line


def test_the_reports_say_what_became_of_the_first_of_the_search_when_another_is_confirmed(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "two")
    run.child("PRIMER_EZ", 2.6)
    run.child("PRIMER", 2.7)
    run.confirm(0, 1.5)
    run.confirm(2, 1.2)
    assert search_leader(leaderboard(run.store)).endswith("#1 was first; it was not retrained.")
    run.confirm(1, 1.3)
    board = leaderboard(run.store)
    assert headline(board).startswith("Confirmed: #2 is better than the baseline")
    leader = "On the validation text of the search, #1 was first; retrained, it is confirmed better than the baseline."
    assert search_leader(board) == leader
    assert render_markdown(run.store).splitlines()[4] == leader
    page = render_report(run.store)
    assert leader in page
    first = page.index('<details id="candidate-2" open')
    assert first < page.index('<details id="candidate-1"'), "the program of the headline is drawn first"
    shown = command("show", run.path, "best").out
    assert "candidate 2, child of the baseline" in shown, "`best` is the candidate of the headline"
    assert "rank        2 in the search, after 1 training" in shown
    assert "retrained   confirmed better than the baseline, 3 fresh trainings: -0.3000" in shown
    assert command("show", run.path, "1", "--json").json["confirmation"]["rank"] == 2
    run.confirm(1, 1.1)
    assert find_candidate_id(run.store, "best") == 1
    assert search_leader(leaderboard(run.store)) == ""


def test_foreign_text_is_no_html_and_no_column(run: HandmadeRun) -> None:
    text = render_markdown(run.store)
    assert "\\<b>relu\\|\\</b>" in text
    assert "<script>alert" not in text.replace("data.source = text:<script>alert", "")  # a block of code is text
    rows = [line for line in text.splitlines() if line.startswith("| 2 |")]
    assert len(rows) == 1


def test_the_markdown_of_a_confirmed_run_shows_both_tables(confirmed_run: HandmadeRun) -> None:
    lines = render_markdown(confirmed_run.store).splitlines()
    assert lines[2].startswith("**Confirmed: #1 is better than the baseline")
    assert not any(line.startswith("> Unconfirmed") for line in lines)
    assert "## Confirmed" in lines
    assert any(line.startswith("| 1 | #1 | 3 of 3 |") and "confirmed better" in line for line in lines)
    assert "## Leaderboard of the search, unconfirmed" in lines


def test_once_retrained_the_first_of_the_retrained_candidates_leads(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "reversed")
    run.child("PRIMER_EZ", 2.6)
    run.child("TRANSFORMER_PP", 2.7)
    assert leading_candidate(leaderboard(run.store)) == 1
    for number, bits in ((0, 1.5), (1, 1.4), (2, 1.3)):
        run.confirm(number, bits)
    board = leaderboard(run.store)
    assert leading_candidate(board) == 2
    assert [each.split()[1:4:2] for each in next_commands(run.path, board)[:2]] == [["show", "2"], ["export", "2"]]
    assert "## The best program, #2" in render_markdown(run.store)


def test_a_run_without_results_has_a_report_that_says_so(tmp_path: Path) -> None:
    text = render_markdown(HandmadeRun(tmp_path / "new", ()).store)
    assert "**The baseline has not finished a full trial, so there is nothing to compare with.**" in text
    assert "## The best program" not in text
    assert write_figures(HandmadeRun(tmp_path / "other", ()).store, tmp_path / "figures") == []


def test_the_figures_are_written_as_svg_and_png_with_sizes(confirmed_run: HandmadeRun, tmp_path: Path) -> None:
    files = {file.name: file for file in write_figures(confirmed_run.store, tmp_path / "figures")}
    plots = {"search", "curves", "confirmed", "edits"}
    assert set(files) == {f"{name}.{form}" for name in plots for form in ("svg", "png")} | {
        "program.svg",
        "lineage.svg",
    }
    assert set((tmp_path / "figures").iterdir()) == set(files.values())
    for name, file in files.items():
        if name.endswith(".svg"):
            assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            start = file.read_bytes()[:24]
            assert start[:8] == b"\x89PNG\r\n\x1a\n"
            width, height = struct.unpack(">II", start[16:24])
            assert width > 500
            assert height > 200


def test_the_same_run_gives_the_same_files(run: HandmadeRun, tmp_path: Path) -> None:
    first, second = (write_figures(run.store, tmp_path / name) for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_a_figure_without_data_is_none() -> None:
    assert confirmation_plot([]) is None
    assert prediction_plot([]) is None


def test_without_matplotlib_one_sentence_says_what_to_install(
    run: HandmadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install matplotlib$"):
        write_figures(run.store, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_command_writes_markdown_that_links_its_figures(confirmed_run: HandmadeRun, tmp_path: Path) -> None:
    figures, report = tmp_path / "my figures", tmp_path / "report.md"
    result = command("report", confirmed_run.path, "--format", "md", "--figures", figures, "-o", report)
    assert result.code == 0, result.err
    text = report.read_text()
    for name in ("search", "confirmed", "program", "curves", "lineage", "edits"):
        assert f"](my%20figures/{name}.svg)" in text
        assert (figures / f"{name}.svg").exists()
    assert "10 figures" in result.err


def test_the_report_is_written_into_the_run_under_its_own_name(run: HandmadeRun) -> None:
    assert command("report", run.path, "--format", "md").code == 0
    assert (run.path / "report.md").read_text() == render_markdown(run.store)


def test_another_file_is_not_overwritten(run: HandmadeRun, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert "is not a Markdown file" in refused("report", run.path, "--format", "md", "-o", other)
    assert other.read_text() == "mine"
    with pytest.raises(UsageError, match="it is a folder"):
        write_markdown(run.store, tmp_path)
    other.rename(tmp_path / "file")
    assert "cannot write figures" in refused("report", run.path, "--figures", tmp_path / "file")


def test_the_page_draws_the_best_program(run: HandmadeRun) -> None:
    assert render_report(run.store).count('role="graphics-document"') == 1
