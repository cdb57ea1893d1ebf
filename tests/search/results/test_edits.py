"""What edits brought: rows of a few candidates equal those of the leaderboard, gains, totals by kind, and the tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from primer_search.search.results.candidate_rows import rank_of, ranking_losses, read_candidate_rows
from primer_search.search.results.edits.edit_gains import edit_gain
from primer_search.search.results.edits.lineage_tree import lineage_tree
from primer_search.search.results.edits.operator_totals import KindTotals, operator_totals
from primer_search.search.results.leaderboard import leaderboard
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("run"), workers=1)
    run.propose(0, None)
    for loss in (4.0, 3.9, 4.1):
        run.train(0, full(loss))
    run.propose(1, 0, "Insert in relu: x2 = ABS(h0)")
    run.train(1, full(3.5))
    run.train(1, full(3.7))
    run.propose(2, 1, "Swap in relu: a", "Insert in main: x2 = SIN(h0)")
    run.train(2, full(3.2))
    run.propose(3, 1, "Insert in main: x2 = COS(h0)")
    run.train(3, Evaluation("stopped_at_hurdle", hurdle_losses=(5.0,), hurdle_steps=(10,)))
    run.propose(4, 0, "Delete in main: x2 = COS(h0)")
    run.train(4, full(3.0))
    run.train(4, Evaluation("non_finite"))
    run.propose(5, 2, "Delete in main: x9 = COS(h0)", same_as=1)
    run.propose(6, 2, "Merge with #4", edits=(1, 2, 4), parents=(2, 4))
    return run


def test_the_rows_of_a_few_candidates_are_those_of_the_leaderboard(run: Run) -> None:
    board = {row.id: row for row in leaderboard(run.store).rows}
    found = read_candidate_rows(run.store, [2, 3, 5])
    assert found.baseline == leaderboard(run.store).baseline
    for number, row in found.rows.items():
        assert replace(row, rank=rank_of(run.store, row), lineage=board[number].lineage) == board[number]
    assert set(found.rows) == {0, 1, 2, 3}
    assert found.row(5) == found.rows[1]
    assert set(found.pedigree) == {0, 1, 2, 3, 5}


def test_the_losses_that_rank_are_those_of_the_leaderboard(run: Run) -> None:
    rows = leaderboard(run.store).rows
    assert ranking_losses(run.store) == {row.id: row.ranking_nats for row in rows if row.rank is not None}


def test_a_gain_is_the_loss_of_the_parent_minus_that_of_the_child(run: Run) -> None:
    rows = read_candidate_rows(run.store, [1, 2, 4])
    gain = edit_gain(rows.row(2), rows.row(1), rows.baseline.noise_nats)
    assert gain is not None
    assert gain.nats == pytest.approx(0.4)
    assert gain.bits_per_byte == pytest.approx(0.2)
    assert gain.inside_noise is True  # three trainings of the baseline: its noise is about half a nat
    assert edit_gain(rows.row(2), rows.row(1), 0.1) is not None
    assert edit_gain(rows.row(4), rows.row(0), 0.1) is None, "one that diverged has no rank"
    assert edit_gain(None, rows.row(0), 0.1) is None


def test_the_totals_count_what_became_of_each_kind(run: Run) -> None:
    totals = {each.kind: each for each in operator_totals(run.store)}
    assert list(totals) == ["Insert", "Delete", "Merge"]
    insert, delete, merge = totals.values()
    assert (insert.proposed, insert.new, insert.full, insert.stopped, insert.failed) == (3, 3, 2, 1, 0)
    assert (insert.compared, insert.improved) == (2, 2)
    assert insert.gain is not None
    assert insert.gain.mean == pytest.approx(0.4)
    assert insert.best == pytest.approx(0.4)
    assert (delete.proposed, delete.new, delete.full, delete.failed, delete.gain) == (2, 1, 0, 1, None)
    assert (merge.proposed, merge.waiting, merge.tried) == (1, 1, None)


def test_counts_of_proposals_are_added_by_kind(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    assert operator_totals(run.store) == ()
    run.store.add_event("proposed", {"kinds": {"Wrap": {"tried": 3, "invalid": 2, "known": 1}}})
    run.store.add_event("proposed", {"kinds": {"Wrap": {"tried": 1, "new": 1}}})
    assert operator_totals(run.store) == (KindTotals("Wrap", 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, None, None),)


def test_the_tree_has_the_best_and_all_their_ancestors(run: Run) -> None:
    tree = lineage_tree(run.store, 1)
    assert [(node.id, node.parents, node.place) for node in tree.nodes] == [
        (0, (), None),
        (1, (0,), None),
        (2, (1,), 1),
    ]
    assert tree.nodes[2].gain is not None
    assert [node.id for node in lineage_tree(run.store, 10).nodes] == [0, 1, 2]


def test_of_a_large_tree_only_the_forks_are_shown(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, full(9.0))
    for number in range(1, 101):
        run.propose(number, number - 1 if number != 100 else 50, "Insert in main: x2 = SIN(h0)")
        run.train(number, full(9.0 - 0.01 * number))
    tree = lineage_tree(run.store, 2)
    assert [(node.id, node.parents, node.skipped) for node in tree.nodes] == [
        (0, (), 0), (50, (0,), 49), (99, (50,), 48), (100, (50,), 0),
    ]  # fmt: skip
    assert tree.nodes[2].gain is not None
    assert tree.nodes[2].gain.nats == pytest.approx(0.01), "over its own parent"
