"""What a person sees: every view in a real pseudo-terminal of 60, 80 and 160 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from primer_search.tests.support.command import HandmadeRun, text_source
from primer_search.tests.support.terminal import Session, in_terminal

WIDTHS = (60, 80, 160)
COMMAND = ("-m", "primer_search")
VIEWS = """
import sys
from primer_search.cli.app import main
for words in (["leaderboard", "a"], ["leaderboard", "a", "b"], ["show", "a", "best", "--diff", "baseline"],
              ["show", "PRIMER_EZ"]):
    print("==", *words)
    code = main(words)
    assert code == 0, code
"""
PANEL = """
import sys, time
from dataclasses import replace
from primer_search.search.evolution.best_candidate import BestCandidate
from primer_search.search.reports.progress.search_progress import search_display
from primer_search.search.runs.progress_snapshot import HurdleCounts, Improvement, ProgressSnapshot
from primer_search.workers.protocol import Evaluation, WorkerStatus

worker = WorkerStatus(0, 5, 126, "train", 412.0, 1000.0, 15.0, 3.25)
state = ProgressSnapshot(
    184.0, 600.0, 127, {"ok": 29, "stopped_at_hurdle": 90, "rejected:causality": 5, "non_finite": 3},
    (3.99, 4.01, 3.98), BestCandidate(126, 3.7115, 2.0217, 3.75),
    (worker, replace(worker, worker=1, candidate_id=0, phase="compile", spent=0.0, loss_nats=None),
     replace(worker, worker=2, candidate_id=None, phase="idle")),
    (120, Evaluation("ok", loss_nats=3.9)), 157, (Improvement(41, 3.85), Improvement(150, 3.7115)),
    (HurdleCounts(120, 74), HurdleCounts(74, 51)),
)
with search_display(sys.stderr) as display:
    display.tell("encoding the text")
    time.sleep(0.3)
    for loss in (3.8, 3.9, 4.0):
        display.observe(state)
        display.observe(replace(state, last=(121, Evaluation("rejected:finiteness", "overflow " * 30))))
        time.sleep(0.3)
print("the end")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of several candidates, whose edits have long descriptions."""
    folder = tmp_path_factory.mktemp("terminal")
    long = "Insert in self_attention: x6 = C_MUL(x4, constant=0.13114334930750612)"
    for name, losses in (("a", (3.0, 2.98, 3.02)), ("b", (4.0, 3.98, 4.02))):
        run = HandmadeRun(folder / name, losses)
        parent = 0
        for loss in (2.7, 2.8, 2.95):
            parent = run.child("PRIMER_EZ", loss, mutation=long, parent=parent)
        run.child("TRANSFORMER_PP", 3.3, "stopped_at_hurdle")
        run.store.close()
    return folder


def assert_fits(session: Session) -> None:
    """No line is longer than the terminal is wide, so none wraps inside a word."""
    too_long = [line for line in session.lines if cell_len(line) > session.columns]
    assert not too_long


@pytest.mark.parametrize("columns", WIDTHS)
def test_leaderboard_and_show_fit_the_terminal(columns: int, folder: Path) -> None:
    session = in_terminal(columns, "-c", VIEWS, folder=folder)
    assert session.code == 0, session.raw
    assert_fits(session)
    views = re.split(r"^== .*$", "\n".join(session.lines), flags=re.MULTILINE)[1:]
    for view, words in zip(
        views,
        (
            ["#1", "2.7000", "1.3500", "-0.1500", "baseline", "UNCONFIRMED"],
            ["run", "#1", "-0.1500", "baselines", "results"],
            ["candidate 1, child of the baseline", "[8, L, 8]", "share", "difference to the baseline"],
            ["PRIMER_EZ: ", "DCONV_3X1", "share"],
        ),
        strict=True,
    ):
        assert not [word for word in words if word not in view], view
    numbers = [line for line in views[0].splitlines() if re.match(r"\s+\d+\s+(#\d|base)", line)]
    assert len(numbers) == 4
    assert not [line for line in numbers if "…" in re.split(r"\s{2,}[a-z]", line)[0]], "no number is cut"
    assert ("no room for" in views[0]) == (columns < 160)
    assert session.escapes, "a terminal gets styles"


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_live_panel_of_a_search_fits_and_leaves_nothing_behind(columns: int) -> None:
    session = in_terminal(columns, "-c", PANEL)
    assert session.code == 0, session.raw
    assert_fits(session)
    assert session.screens[-1] == "the end", "the panel is erased"
    # What the terminal got in one piece may end in the middle of a panel.
    whole = (screen for screen in reversed(session.screens) if "worker 2  idle" in screen)
    full = next(screen for screen in whole if any(line.endswith("…") for line in screen.splitlines()))
    for words in ("6m 56s left of 10m", "74 of 120", "▁ 3.7115 nats", "worker 0  training   #126", "41%  3.250 nats"):
        assert words in full, full
    assert re.search(r"worker 1  compiling  baseline +━* +0%  15 s", full)
    assert full.count("worker 0") == full.count("time  ") == 1, "one panel, drawn over itself"


def test_colours_and_movements_depend_on_the_terminal(folder: Path) -> None:
    plain = in_terminal(80, "-c", VIEWS + PANEL, folder=folder, NO_COLOR="1")
    assert plain.code == 0 and plain.escapes and not plain.colours
    dumb = in_terminal(80, "-c", VIEWS + PANEL, folder=folder, TERM="dumb")
    assert (dumb.code, dumb.escapes) == (0, [])
    assert "3m 4s best so far: #126" in "\n".join(dumb.lines)
    assert_fits(dumb)
    piped = subprocess.run(
        [sys.executable, "-c", VIEWS + PANEL],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "3m 4s best so far: #126" in piped.stderr


def test_a_tiny_search_shows_its_progress_and_ends_with_tables_that_fit(tmp_path: Path) -> None:
    text, environment = text_source(tmp_path / "text"), {"PRIMER_SEARCH_CACHE": str(tmp_path / "cache")}
    search = (*COMMAND, "--config", "smoke", "--executor", "inline", "--data", text, "--run-dir", "r")
    session = in_terminal(60, *search, "--budget", "6s", folder=tmp_path, **environment)
    assert session.code == 0, session.raw
    assert_fits(session)
    assert any(re.match(r"time .* left of ", line) for line in session.lines)
    printed = "\n".join(session.lines)
    assert "run r: the budget is spent" in printed and "primer-search resume r --budget 10m" in printed
    quiet = in_terminal(80, *COMMAND, "resume", "r", "--budget", "3s", "--quiet", folder=tmp_path, **environment)
    assert quiet.code == 0, quiet.raw
    assert "\n".join(quiet.lines).startswith("run r: the budget is spent"), "only the result"
    assert "\x1b[2K" not in quiet.raw, "nothing was drawn and erased"
