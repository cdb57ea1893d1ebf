"""The digest of a run equals its leaderboard, whatever the run and however it is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from primer_search.search.results.confirmation import Retraining
from primer_search.search.results.digest import run_digest
from primer_search.search.results.digest.pareto_front import COSTS, pareto_front
from primer_search.search.results.digest.row_query import SORTS, RowQuery, select_rows
from primer_search.search.results.digest.run_digest import RunDigest
from primer_search.search.results.edits.edit_kind_totals import edit_kind_totals
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.store import Store
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation, TrialRequest

GUIDED = {"search": {"strategy": "guided"}, "trial": {"price": True, "unit": "steps", "budget_steps": 1000}}


def write_random_run(folder: Path, seed: int, guided: bool) -> Run:
    """Write a run with repeats, faults, lost workers, merges, pauses and retrainings."""
    draw = random.Random(seed)
    run = Run(folder, workers=2, **({"config": GUIDED} if guided else {}))
    run.propose(0, None)
    counts = {"step_flops": 1e6, "step_bytes": 1e5, "step_transcendentals": 1e4}
    for _ in range(3):
        run.train(0, full(4.0 + draw.gauss(0, 0.02), hurdle_losses=(4.5,), **counts))
    for number in range(1, 40):
        parents = (number - 1, draw.randrange(number)) if number > 5 and draw.random() < 0.2 else None
        edits = tuple(sorted({draw.randrange(1, number) for _ in range(3)})) if parents else None
        run.propose(
            number, draw.randrange(number), f"Insert in relu: x{number} = ABS(h0)", edits=edits, parents=parents
        )
        for _ in range(draw.choice((1, 1, 2))):
            costs: dict[str, Any] = {name: value * draw.uniform(0.8, 1.3) for name, value in counts.items()}
            kind = draw.random()
            if kind < 0.6:
                result = full(
                    draw.gauss(3.95, 0.1), relative_step=draw.uniform(0.8, 1.4), hurdle_losses=(4.4,), **costs
                )
            elif kind < 0.8:
                result = Evaluation("stopped_at_hurdle", hurdle_losses=(draw.gauss(4.6, 0.1),), steps=50)
            elif kind < 0.9:
                result = Evaluation("non_finite", "diverged", steps=10, **costs)
            else:
                result = Evaluation("worker_lost", "its worker died")
            run.train(number, result)
        if draw.random() < 0.1:
            run.now += 500.0
            run.store.start_trial(TrialRequest(run.store.next_trial_id(), number, "", seed=1))
            run.store.add_event("run_resumed", {"workers": 2})
    retraining = Retraining("#3", 3, 1, 20.0, full(3.9))
    run.store.add_event("confirmed", retraining.payload(), 3)
    run.store.add_event("note", {"why": "end"})
    return run


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_digest_has_the_rows_and_totals_of_the_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, guided: bool, size: int
) -> None:
    monkeypatch.setattr(run_digest, "_SLICE", size)
    run = write_random_run(tmp_path, seed, guided)
    board, digest = leaderboard(run.store), RunDigest(run.store.manifest)
    assert digest.update(run.store, 60.0)
    ordered = digest.table.ids("WHERE class IS NOT NULL ORDER BY class, subclass, ranking, id")
    assert ordered == [row.id for row in board.rows]
    assert digest.rows(run.store, ordered) == list(board.rows)
    assert digest.baseline == board.baseline
    assert digest.confirmed == board.confirmed
    totals, expected = asdict(digest.totals()), asdict(board.totals)
    assert totals.pop("shares") == pytest.approx(expected.pop("shares"))
    assert totals.pop("full_budgets") == pytest.approx(expected.pop("full_budgets"))
    assert totals == expected
    run.store.close()


def test_a_digest_that_follows_a_run_equals_one_that_reads_it_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    digest = RunDigest(run.store.manifest)
    for number in range(12):
        run.propose(number, number - 1 if number else None, f"edit {number}")
        digest.update(run.store, 1.0)
        run.train(number, full(4.0 - 0.01 * number))
        digest.update(run.store, 1.0)
        board = leaderboard(run.store)
        assert digest.rows(run.store, [row.id for row in board.rows]) == list(board.rows)
    assert digest.ancestry.edit_count(11) == len(leaderboard(run.store).rows[0].lineage) == 11
    run.store.close()


def test_short_lineages_are_the_ends_of_the_whole_ones(tmp_path: Path) -> None:
    run = write_random_run(tmp_path, 1, True)
    digest = RunDigest(run.store.manifest)
    digest.update(run.store, 60.0)
    ids = digest.table.ids("WHERE class IS NOT NULL")
    ancestry = run.store.ancestry()
    for whole, short in zip(digest.rows(run.store, ids), digest.rows(run.store, ids, newest=2), strict=True):
        assert digest.ancestry.edit_count(whole.id) == len(whole.lineage)
        if ancestry[whole.id].merged_with is None:
            assert short.lineage == whole.lineage[-2:]
    run.store.close()


def test_a_prefix_of_the_events_is_an_earlier_state_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_digest, "_SLICE", 5)
    run = Run(tmp_path, workers=1)
    for number in range(10):
        run.propose(number, None if number == 0 else 0)
        run.train(number, full(4.0 - 0.01 * number))
    digest = RunDigest(run.store.manifest)
    monkeypatch.setattr(run_digest.time, "monotonic", iter(range(1000)).__next__)  # a second passes at every look
    assert not digest.update(run.store, 1.5)
    assert digest.last == 5
    assert 0 < digest.totals().candidates < 10
    while not digest.update(run.store, 1.5):
        pass
    assert digest.totals().candidates == 10
    run.store.close()


def test_the_digest_reads_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    write_random_run(tmp_path, 0, False).store.close()
    with Store.open(tmp_path, read_only=True) as store:
        digest = RunDigest(store.manifest)
        assert digest.update(store, 60.0)


def test_speeds_follow_the_step_time_of_the_baseline_and_steps_timed_in_turns(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    digest = RunDigest(run.store.manifest)
    run.propose(0, None)
    run.train(0, full(4.0, step_ms=20.0))
    for number, (step_ms, price) in enumerate(((30.0, None), (10.0, None), (99.0, 0.8), (5.0, 1.6)), start=1):
        run.propose(number, 0, f"edit {number}")
        run.train(number, full(4.0, step_ms=step_ms, relative_step=price))
        digest.update(run.store, 60.0)
    run.train(0, full(4.0, step_ms=8.0))
    digest.update(run.store, 60.0)
    board = leaderboard(run.store)
    expected = sorted(board.rows, key=lambda row: (-(row.speed or 0.0), -row.id))
    assert select_rows(digest.table, RowQuery(sort="speed"), digest.baseline).ids == [row.id for row in expected]
    assert digest.table.query("SELECT speed FROM candidates ORDER BY speed DESC, id DESC") == [
        (pytest.approx(row.speed),) for row in expected
    ]
    run.store.close()


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_of_sorted_rows_is_read_in_the_order_of_an_index(tmp_path: Path, sort: str, reverse: bool) -> None:
    assert not _sorted_statements(tmp_path, lambda digest: select_rows(
        digest.table, RowQuery(sort=sort, reverse=reverse), digest.baseline
    ))  # fmt: skip


@pytest.mark.parametrize("cost", COSTS)
def test_the_candidates_of_a_pareto_figure_are_read_in_the_order_of_an_index(tmp_path: Path, cost: str) -> None:
    assert not _sorted_statements(tmp_path, lambda digest: pareto_front(digest.table, cost, 5))


def test_the_totals_by_kind_of_edit_are_read_in_the_order_of_an_index(tmp_path: Path) -> None:
    assert not _sorted_statements(tmp_path, edit_kind_totals)


def _sorted_statements(folder: Path, read: Callable[[RunDigest], object]) -> list[str]:
    """Return the statements on the digest's table that sort rows, instead of following an index."""
    run = write_random_run(folder, 0, False)
    digest = RunDigest(run.store.manifest)
    digest.update(run.store, 60.0)
    run.store.close()
    query, seen = digest.table.query, list[tuple[str, Any]]()
    digest.table.query = lambda statement, values=(): (seen.append((statement, values)), query(statement, values))[1]
    read(digest)
    assert seen
    plans = {statement: query(f"EXPLAIN QUERY PLAN {statement}", values) for statement, values in seen}
    return [statement for statement, plan in plans.items() if any("TEMP B-TREE" in str(step) for step in plan)]
