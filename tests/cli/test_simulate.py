"""The command `simulate`: what it prints, and how it refuses what it cannot simulate."""

from __future__ import annotations

from pathlib import Path

import pytest

from primer_search.tests.support.command import command, refused

QUICK = ("simulate", "--workers", "5", "--budget", "20h", "--proposals", "copies", "--controller-clock", "none")


def test_the_table_says_what_a_search_would_need_and_what_is_left_out() -> None:
    result = command(*QUICK)
    assert result.code == 0
    for words in ("utilisation", "trials a day", "lost trials  0", "Left out: training", "Children are copies"):
        assert words in result.out
    assert "shorter than three full trials" in result.out


def test_json_has_the_same_figures_and_nothing_else() -> None:
    facts = command(*QUICK, "--json", "--seed", "3").json
    assert (facts["workers"], facts["budget_seconds"], facts["complete"]) == (5, 72_000.0, True)
    assert facts["unaccounted"] == 0 and facts["utilisation"] > 0.99
    assert facts["trials"] == sum(facts["outcomes"].values()) + facts["cancelled"]
    assert facts["largest_workers"] > 5 and facts["whole_budget"] is None


def test_a_kept_run_is_refused_by_other_commands(tmp_path: Path) -> None:
    run, block = tmp_path / "run", tmp_path / "block.py"
    assert command(*QUICK, "--run-dir", run).code == 0
    commands = (["leaderboard", run], ["show", run, "best"], ["confirm", run], ["resume", run], ["report", run])
    for arguments in (*commands, ["export", run, "best", "-o", block]):
        assert "is simulated: its results are invented" in refused(*arguments)
    assert not block.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "at least one worker"),
        (["--budget", "1h"], "the budget of 1h is shorter than a full trial of 7h"),
        (["--config", "laptop", "--trial-budget", "10s"], "counts steps"),
        (["--config", "laptop"], "is for evolution"),
        (["--set", "search.strategy='random-init'"], "cannot be simulated"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_sentence(options: list[str], message: str) -> None:
    assert message in refused(*QUICK, *options)
