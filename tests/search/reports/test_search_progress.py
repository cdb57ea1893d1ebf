"""What people read while a search runs and when it ends: progress, the leaderboard, and no claim beyond the noise."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from primer_search.primitives.errors import WorkFailedError
from primer_search.search.evolution.best_candidate import BestCandidate
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.reports.candidate_details import format_lineage, format_mutations, short_mutation
from primer_search.search.reports.console import console_for
from primer_search.search.reports.phrases import format_proposals, headline
from primer_search.search.reports.progress.display import NoDisplay
from primer_search.search.reports.progress.search_progress import (
    SearchLines,
    SearchPanel,
    best_against_baseline,
    format_outcomes,
    search_display,
)
from primer_search.search.reports.tables.leaderboard_table import RANKED, print_leaderboard
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.leaderboard_rows import Leaderboard
from primer_search.search.results.lineage import LineageStep
from primer_search.search.runs.progress_snapshot import ProgressSnapshot, SearchHistory
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.sessions.run_search import OutputOptions, search_with_display
from primer_search.tests.support.command import HandmadeRun
from primer_search.workers.protocol import Evaluation, WorkerStatus

WORKER = WorkerStatus(0, 5, 4, "train", 12.0, 30.0, 15.0, 3.25)
STATE = ProgressSnapshot(
    elapsed_seconds=60.0,
    budget_seconds=600.0,
    candidates=6,
    outcomes={"ok": 4, "stopped_at_hurdle": 1, "rejected:causality": 1},
    baseline_losses=(3.0, 2.98, 3.02),
    best=BestCandidate(2, 2.8, 1.4, 2.8),
    workers=(WORKER, replace(WORKER, worker=1, candidate_id=BASELINE_ID, phase="compile", spent=0.0, loss_nats=None)),
    last=(2, Evaluation("ok", loss_nats=2.8)),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- progress ---------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_panel_and_a_pipe_gets_lines() -> None:
    assert isinstance(search_display(Terminal()), SearchPanel)
    assert isinstance(search_display(io.StringIO()), SearchLines)


def test_lines_tell_each_new_best_and_each_minute_once() -> None:
    stream = io.StringIO()
    with SearchLines(stream) as display:
        display.tell("preparing")
        for seconds in (1.0, 59.0, 60.0, 61.0, 119.0, 121.0):
            display.observe(replace(STATE, elapsed_seconds=seconds))
        display.observe(replace(STATE, elapsed_seconds=125.0, best=BestCandidate(3, 2.7, 1.35, 2.7)))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "preparing"
    assert [line.split()[0] for line in lines if "candidates" in line] == ["1m", "2m"]
    assert [line.split()[:4] for line in lines if "best" in line] == [
        ["1s", "best", "so", "far:"],
        ["2m", "5s", "new", "best:"],
    ]


def test_a_candidate_worse_than_the_baseline_is_no_news() -> None:
    stream = io.StringIO()
    with SearchLines(stream) as display:
        display.observe(replace(STATE, elapsed_seconds=1.0, best=None))
        display.observe(replace(STATE, elapsed_seconds=30.0, best=BestCandidate(1, 3.1, None, 3.1)))
        display.observe(replace(STATE, elapsed_seconds=61.0, best=BestCandidate(1, 3.1, None, 3.1)))
        display.observe(replace(STATE, elapsed_seconds=70.0, best=BestCandidate(2, 2.9, None, 2.9)))
        display.observe(replace(STATE, elapsed_seconds=121.0, best=BestCandidate(2, 2.9, None, 2.9)))
    minute, news, later = stream.getvalue().splitlines()
    assert minute.startswith("1m 1s 6 candidates")
    assert minute.endswith("none better than the baseline yet")
    assert news.startswith("1m 10s new best: #2 2.9000 nats")
    assert "none better" not in later


def test_a_best_that_a_repeated_training_corrects_is_told_once_a_minute_and_not_as_new() -> None:
    stream = io.StringIO()
    lucky, corrected = BestCandidate(2, 2.7, None, 2.7), BestCandidate(2, 2.8, None, 2.8)
    other, better = BestCandidate(3, 2.85, None, 2.85), BestCandidate(5, 2.82, None, 2.82)
    with SearchLines(stream) as display:
        for seconds, best in (
            (1.0, lucky),
            (10.0, corrected),
            (61.0, corrected),
            (70.0, replace(corrected, fitness_nats=2.81)),  # another price is no news
            (121.0, replace(corrected, fitness_nats=2.81)),
            (130.0, other),
            (140.0, better),
            (181.0, better),
        ):
            display.observe(replace(STATE, elapsed_seconds=seconds, best=best))
    told = [line.split(" nats")[0] for line in stream.getvalue().splitlines() if "best" in line]
    assert told == ["1s best so far: #2 2.7000", "1m 1s the best is now: #2 2.8000", "2m 20s new best: #5 2.8200"]


def test_a_slower_best_is_set_against_the_baseline_at_equal_time_too() -> None:
    slower = replace(STATE, best=BestCandidate(2, 2.8, 1.4, 2.9))
    assert "; -0.2000 nats, -0.1000 bits/byte at equal steps, -0.1000 nats, -0.0500 bits/byte at equal time, " in (
        best_against_baseline(slower)
    )


def test_the_best_is_set_against_the_baseline_in_both_units() -> None:
    assert best_against_baseline(STATE) == (
        "#2 2.8000 nats, 1.4000 bits/byte; -0.2000 nats, -0.1000 bits/byte "
        "against the baseline 3.0000 ± 0.0200 nats (n=3)"
    )
    assert "still training" in best_against_baseline(replace(STATE, best=None, baseline_losses=()))


def panel(state: ProgressSnapshot | None) -> str:
    """The panel's text, 120 columns wide."""
    display = SearchPanel(Terminal())
    display.tell("encoding the text")
    if state is not None:
        display.observe(replace(state, last=None))
        display.observe(state)
    out = io.StringIO()
    Console(file=out, width=120).print(display.panel())
    return out.getvalue()


def test_the_panel_shows_time_counts_best_workers_and_what_happened() -> None:
    text = panel(STATE)
    for words in (
        "9m left of 10m",
        "6 candidates · 6 trials (6.0 a minute)",
        "4 trained in full",
        "1 rejected",
        "#2 2.8000 nats",
    ):
        assert words in text
    rows = [line.split() for line in text.splitlines() if line.startswith("worker")]
    assert rows[0][:4] == ["worker", "0", "training", "#4"]
    assert rows[0][-3:] == ["40%", "3.250", "nats"]
    assert rows[1][:4] == ["worker", "1", "compiling", "baseline"]
    assert "#2 trained in full: 2.8000 nats" in text


def test_the_last_trial_of_the_session_before_is_no_news() -> None:
    display = SearchPanel(Terminal())
    display.observe(STATE)
    out = io.StringIO()
    Console(file=out, width=120).print(display.panel())
    assert "#2 trained in full" not in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_numbers_are_whole_on_narrow_terminals(width: int, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    print_leaderboard(board_of(tmp_path, [2.8, 3.2]), console)
    table = out.getvalue().split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= width
    assert [line.split()[:4] for line in table if line.strip()[:1].isdigit()] == [
        ["1", "#1", "2.8000", "1.4000"],
        ["2", "baseline", "3.0000", "1.5000"],
        ["3", "#2", "3.2000", "1.6000"],
    ]


def test_the_panel_shows_hurdles_and_the_lowest_loss_after_each_trial() -> None:
    history = SearchHistory()
    for number, evaluation in (
        (BASELINE_ID, Evaluation("ok", loss_nats=3.0, hurdle_losses=(3.5, 3.2))),
        (1, Evaluation("stopped_at_hurdle", hurdle_losses=(3.6,))),
        (2, Evaluation("ok", loss_nats=2.8, hurdle_losses=(3.4, 3.1))),
        (3, Evaluation("non_finite", hurdle_losses=(3.4,))),
        (4, Evaluation("ok", loss_nats=2.9, hurdle_losses=(3.4, 3.1))),
    ):
        history.record(number, evaluation)
    assert history.improvements == [(3, 2.8)]
    state = replace(STATE, trials=history.trials, improvements=tuple(history.improvements), hurdles=history.hurdles())
    text = panel(state)
    assert "3 of 4 passed hurdle 1 · 2 of 2 hurdle 2" in text
    assert "lowest    3.0000 ██▁▁▁ 2.8000 nats" in text


def test_a_message_takes_the_place_of_the_workers_until_the_next_state() -> None:
    display = SearchPanel(Terminal())
    display.observe(STATE)
    display.tell("retraining the best candidates")
    out = io.StringIO()
    Console(file=out, width=80).print(display.panel())
    assert "retraining the best candidates ..." in out.getvalue() and "worker 0" not in out.getvalue()


def test_a_quiet_search_shows_nothing_and_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with search_display(stream, quiet=True) as display:
        assert isinstance(display, NoDisplay)
        display.tell("preparing")
        display.observe(STATE)
        display.warn("a tracker has failed")
    assert stream.getvalue() == "a tracker has failed\n"
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(search_display(Terminal()), SearchLines)


def test_the_panel_says_what_is_being_prepared() -> None:
    assert panel(None).startswith("encoding the text")


def test_the_panel_of_a_hundred_workers_stays_small() -> None:
    text = panel(replace(STATE, workers=(WORKER,) * 100))
    assert len(text.splitlines()) < 25
    shown = text.count("worker 0")
    assert shown > 2 and f"and {100 - shown} more" in text


def test_outcomes_are_summed_over_reasons_in_a_fixed_order() -> None:
    outcomes = {"rejected:kinds": 1, "timeout": 1, "ok": 2, "rejected:causality": 3, "stopped_at_hurdle": 5}
    assert format_outcomes(outcomes) == "2 trained in full · 5 stopped at a hurdle · 4 rejected · 1 timeout"


def test_waiting_for_batches_is_said_where_it_is_worth_a_word(tmp_path: Path) -> None:
    board = board_of(tmp_path, [2.8, 2.9])
    assert "waiting for batches" not in printed(board)
    shares = {0: 0.001, 1: 0.0512, 2: 0.03}
    waited = replace(board, rows=tuple(replace(row, input_wait_share=shares[row.id]) for row in board.rows))
    assert "2 of 3 candidates spent more than 2% of training waiting for batches, #1 the most: 5.1%" in printed(waited)


# --- what is claimed --------------------------------------------------------------------------------------------


def board_of(path: Path, losses: list[float], baseline_losses: tuple[float, ...] = (3.0, 2.98, 3.02)) -> Leaderboard:
    run = HandmadeRun(path, baseline_losses)
    for loss in losses:
        run.child("PRIMER_EZ", loss)
    return leaderboard(run.store)


@pytest.mark.parametrize(
    ("losses", "baseline_losses", "sentence"),
    [
        (
            [2.7],
            (3.0, 2.98, 3.02),
            "Candidate 1 is 0.3000 nats (0.1500 bits/byte) below the baseline's mean, beyond the",
        ),
        (
            [2.95],
            (3.0, 2.98, 3.02),
            "Nothing beat the baseline beyond its noise. The best, candidate 1, is 0.0500 nats",
        ),
        ([3.5], (3.0, 2.98, 3.02), "Nothing beat the baseline beyond its noise"),
        (
            [2.7],
            (3.0,),
            "Candidate 1 is 0.3000 nats (0.1500 bits/byte) below the baseline's mean, but the baseline's noise is",
        ),
        ([], (3.0, 2.9), "No candidate has finished a full trial yet."),
        ([2.7], (), "The baseline has not finished a full trial"),
    ],
    ids=["beyond the noise", "inside it", "worse", "one trial of the baseline", "nothing yet", "no baseline"],
)
def test_the_headline_claims_no_more_than_the_noise_allows(
    losses: list[float], baseline_losses: tuple[float, ...], sentence: str, tmp_path: Path
) -> None:
    assert headline(board_of(tmp_path, losses, baseline_losses)).startswith(sentence)


def test_the_headline_has_the_difference_at_equal_time_where_steps_have_a_price(tmp_path: Path) -> None:
    board = board_of(tmp_path, [2.7])
    slower = replace(board, rows=tuple(replace(row, equal_time_delta_nats=-0.21) for row in board.rows))
    assert "the baseline's mean at equal steps and 0.2100 nats below it at equal time, beyond the noise" in headline(
        slower
    )
    assert RANKED in printed(slower) and RANKED not in printed(board)


def printed(board: Leaderboard, top: int = 10) -> str:
    out = io.StringIO()
    print_leaderboard(board, console_for(out), top)
    return out.getvalue()


def test_the_leaderboard_says_where_a_difference_is_noise(tmp_path: Path) -> None:
    text = printed(board_of(tmp_path, [2.7, 2.95]))
    rows = {line.split()[1]: line.split() for line in text.splitlines() if line.strip()[:1].isdigit()}
    assert rows["#1"][:6] == ["1", "#1", "2.7000", "1.3500", "-0.1500", "-3.0"]
    assert rows["#2"][:6] == ["2", "#2", "2.9500", "1.4750", "-0.0250", "inside"]
    assert rows["baseline"][:4] == ["3", "baseline", "3.0000", "1.5000"]
    assert "3.0000 ± 0.0200 nats (n=3)" in text
    assert "UNCONFIRMED" in text


def test_the_baseline_stands_below_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    lines = printed(board_of(tmp_path, [2.7, 2.8, 2.9]), top=1).splitlines()
    ranked = [line.split()[1] for line in lines if line.strip()[:1].isdigit()]
    assert ranked == ["#1", "baseline"]


def test_what_was_stopped_is_not_compared_with_full_trials(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path)
    run.child("PRIMER", 2.0, "stopped_at_hurdle")
    run.child("PRIMER_EZ", 2.8, "rejected:causality")
    lines = printed(leaderboard(run.store)).splitlines()
    assert next(line.split() for line in lines if "#1" in line)[:6] == ["–", "#1", "2.0000", "–", "hurdle", "1"]
    assert next(line.split() for line in lines if "#2" in line)[:5] == ["–", "#2", "–", "–", "causality"]
    assert "UNCONFIRMED" not in "\n".join(lines), "nothing was found that could be confirmed"


def test_mutations_are_told_newest_first_and_silent_ones_are_counted() -> None:
    lineage = (
        LineageStep(1, ("Insert in relu: x3 = SQUARE(x2)",)),
        LineageStep(
            2, ("Mutate field in1 in main: x2 = ABS(h0) becomes x2 = ABS(h1)", "Delete in softmax: x2 = EXP(h0)")
        ),
    )
    assert format_lineage(lineage) == ["softmax: − x2 = EXP(h0) (+1)", "relu: + x3 = SQUARE(x2)"]


def test_each_type_of_mutation_has_a_short_form() -> None:
    assert short_mutation("Mutate bank value: constant 1 from 0.5 to -2") == "constant 1: 0.5 → -2"
    assert short_mutation("Delete and insert: in main: a = ABS(h0); then in relu: b = EXP(h0)") == (
        "main: − a = ABS(h0), relu: + b = EXP(h0)"
    )
    assert short_mutation("Mutate field op in main: x2 = ABS(h0) becomes x2 = EXP(h0)") == (
        "main: x2 = ABS(h0) → x2 = EXP(h0)"
    )
    assert short_mutation("Swap in main: a with b") == "main: swap a with b"
    assert short_mutation("Wrap in main: x2 = ABS(h0) and x3 = ADD(h0, x2)") == (
        "main: + x2 = ABS(h0) and x3 = ADD(h0, x2)"
    )
    for name in ("Rewire", "Replace op", "Resize"):
        assert short_mutation(f"{name} in relu: a becomes b") == "relu: a → b"
    assert short_mutation("Resize: dimension 1 from 32u to 48u") == "dimension 1: 32u → 48u"
    assert short_mutation("Constant: 0 from 0.5 to -2") == "constant 0: 0.5 → -2"


def test_a_merge_names_its_parents_and_the_edits_of_both() -> None:
    lineage = (LineageStep(1, ("Insert in relu: a",), (3, 5)), LineageStep(3, ("Swap in main: b with c",), (3,)))
    assert format_mutations(lineage) == "merge of #3 and #5: main: swap b with c; relu: + a"
    assert format_mutations(lineage, 1) == "merge of #3 and #5: main: swap b with c; … 1 more"


def test_fates_of_mutations_add_up() -> None:
    fates = {"mutations": 100, "invalid_widths": 20, "invalid_kinds": 10, "unchanged": 30, "same_function": 5}
    assert format_proposals(fates) == (
        "100 mutations: 35 new programs · 30 left the program unchanged (30%) · 5 known function (5%) · "
        "30 invalid (30%: widths 20, kinds 10)"
    )


# --- when it breaks ---------------------------------------------------------------------------------------------


def break_down(**_: object) -> NoReturn:
    raise ZeroDivisionError("of\nthings")


def test_a_search_that_breaks_off_leaves_its_traceback_in_the_runs_log(tmp_path: Path) -> None:
    HandmadeRun(tmp_path)
    run = RunDirectory(tmp_path)
    with pytest.raises(WorkFailedError, match=r"ZeroDivisionError: of things .*run\.log"):
        search_with_display(run, break_down, OutputOptions())
    assert "in break_down" in run.log.read_text()


def test_a_search_that_breaks_before_it_has_a_store_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError):
        search_with_display(RunDirectory(tmp_path / "run"), break_down, OutputOptions())
    assert not list(tmp_path.iterdir())
