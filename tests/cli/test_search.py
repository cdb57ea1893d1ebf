"""One whole search by the command, all that follows it on the same run, and searches that end early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from primer_search.tests.support.command import command, refused, text_source


@dataclass(frozen=True, slots=True)
class Searched:
    """A real run: its directory, and what the command printed when it ended."""

    path: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        yield text_source(folder / "text")


SMOKE = ("--config", "smoke", "--executor", "inline", "--set", "trial.hurdles=0")


@pytest.fixture(scope="module")
def searched(source: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search of seconds, taken up again until a candidate has trained in full, however slow the machine."""
    path = tmp_path_factory.mktemp("runs") / "a run"
    result = command("--budget", "6s", *SMOKE, "--data", source, "--run-dir", path)
    assert result.code == 0, result
    for doublings in range(7):
        board = command("leaderboard", path, "--json").json
        if any(row["rank"] and row["id"] for row in board["candidates"]) and board["baseline"]["trials"] == 2:
            return Searched(path, result.out, result.err)
        result = command("resume", path, "--budget", f"{5 * 2**doublings}s")
        assert result.code == 0, result
    pytest.fail("no candidate trained in full")


def test_a_search_ends_with_the_leaderboard_and_what_to_type_next(searched: Searched) -> None:
    for words in ("rank", "UNCONFIRMED", "outcomes", "proposals", "wall clock", "training", "idle", "report.html"):
        assert words in searched.out
    named = f"'{searched.path}'"  # quoted, as its name holds a space
    for typed in (f"primer-search show {named}", f"primer-search export {named}", f"primer-search resume {named}"):
        assert typed in searched.out
    assert {file.name for file in searched.path.iterdir()} >= {"run.sqlite", "report.html"}


def test_progress_goes_to_stderr(searched: Searched) -> None:
    assert "starting" in searched.err
    assert "rank" not in searched.err


def test_the_leaderboard_is_one_json_object(searched: Searched) -> None:
    result = command("leaderboard", searched.path, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json["run"] == str(searched.path)
    for row in result.json["candidates"]:
        assert {"id", "parent", "loss_nats", "bits_per_byte", "outcome", "parameters", "step_ms"} <= set(row)
    assert len(command("leaderboard", searched.path, "--top", "1", "--json").json["candidates"]) == 1


def test_the_best_candidate_is_shown_with_its_program_and_its_difference(searched: Searched) -> None:
    shown = command("show", searched.path, "best", "--diff", "baseline", "--json").json
    first = next(row for row in command("leaderboard", searched.path, "--json").json["candidates"] if row["id"])
    assert (shown["id"], shown["loss_nats"]) == (first["id"], first["loss_nats"])
    assert shown["against"] == "the baseline"
    assert shown["dna"]["format"] == 1
    printed = command("show", searched.path, str(shown["id"]), "--diff", "parent").out
    for line in shown["lines"]:
        assert line["text"].partition("constant=")[0] in printed
    assert shown["lineage"][0]["mutations"][0] in printed
    assert "difference to its parent" in printed


def test_the_baseline_is_shown_and_has_no_parent(searched: Searched) -> None:
    assert command("show", searched.path, "baseline").out.startswith("the baseline")
    assert "no parent" in refused("show", searched.path, "0", "--diff", "parent")


def test_a_shown_dna_passes_check_with_the_same_identity(searched: Searched, tmp_path: Path) -> None:
    shown = command("show", searched.path, "best", "--json").json
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(shown["dna"]))
    checked = command("check", file, "--config", "smoke", "--json").json
    assert checked["structure_hash"] == shown["structure_hash"]
    assert checked["parameters"] == shown["parameters"]


def test_the_best_candidate_is_exported_once(searched: Searched, tmp_path: Path) -> None:
    file = tmp_path / "block.py"
    result = command("export", searched.path, "best", "-o", file, "--name", "Found")
    assert result.code == 0, result
    assert "class Found(" in file.read_text()
    assert "exists" in refused("export", searched.path, "best", "-o", file)
    assert command("export", searched.path, "best", "-o", file, "--force").code == 0


def test_a_report_goes_where_it_is_told(searched: Searched, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert command("report", searched.path, "-o", page).code == 0
    assert "<table" in page.read_text(encoding="utf-8")
    missing = tmp_path / "none" / "report.html"
    refusal = refused("report", searched.path, "-o", missing)
    assert f"cannot write {missing}" in refusal and "-o" in refusal


def test_resume_goes_on_and_prints_json_alone(searched: Searched) -> None:
    before = command("leaderboard", searched.path, "--json").json["totals"]["trials"]
    result = command("resume", searched.path, "--budget", "4s", "--json")
    assert result.code == 0
    assert result.json["totals"]["trials"] > before


def test_a_trial_does_not_outlast_the_budget(source: str, tmp_path: Path) -> None:
    began = time.monotonic()
    minutes = ("--set", "trial.budget_steps=300000")
    result = command("--budget", "12s", *SMOKE, *minutes, "--data", source, "--run-dir", tmp_path / "run", "--json")
    assert (result.code, result.json["totals"]["trials"]) == (0, 0), result
    assert time.monotonic() - began < 300.0, "on a busy machine, too"


def test_a_spent_budget_is_said(searched: Searched) -> None:
    assert "has spent its budget" in refused("resume", searched.path)


def test_a_run_directory_that_holds_a_run_is_not_searched_again(searched: Searched) -> None:
    assert "holds a run" in refused("--config", "smoke", "--run-dir", searched.path)


def test_a_run_that_is_not_running_has_nothing_to_stop(searched: Searched) -> None:
    result = command("stop", searched.path)
    assert (result.code, "is not running" in result.err) == (0, True)


# --- ending early -----------------------------------------------------------------------------------------------


@pytest.fixture
def running(source: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A search of ten minutes in a separate process, past its first trial."""
    path = tmp_path / "run"
    arguments = [sys.executable, "-m", "primer_search", *SMOKE, "--data", source, "--run-dir", str(path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if (path / "run.sqlite").exists() and command("leaderboard", path, "--json").json["totals"]["trials"]:
                break
            time.sleep(0.1)
        yield process, path
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_search_prints_its_leaderboard_exits_with_130_and_says_how_to_go_on(
    number: signal.Signals, running: tuple[subprocess.Popen[str], Path]
) -> None:
    process, path = running
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.startswith(f"run {path}: interrupted\n") and "baseline" in out
    assert err.splitlines()[-1].endswith(f"`primer-search resume {path}`")
    assert "Traceback" not in err
    assert command("resume", path, "--budget", "1s", "--json").json["totals"]["trials"] > 0


def test_stop_ends_a_running_search_which_prints_its_leaderboard(running: tuple[subprocess.Popen[str], Path]) -> None:
    process, path = running
    assert "is already running" in refused("resume", path)
    result = command("stop", path)
    # A compilation in this process hears nothing, and takes its time where others want the machine.
    assert (result.code, "has stopped" in result.err or "is asked to stop" in result.err) == (0, True)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "stopped on request" in out
