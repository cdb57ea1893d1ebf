"""What edits brought: rows of a few candidates equal those of the leaderboard, gains, totals by kind, and the tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from primer_search.search.results.digest.candidate_rows import candidate_rows
from primer_search.search.results.digest.run_digest import RunDigest
from primer_search.search.results.edits.edit_gains import edit_gain
from primer_search.search.results.edits.edit_kind_totals import EditKindTotals, edit_kind_totals
from primer_search.search.results.edits.lineage_tree import lineage_tree
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.store_reader import StoreReader
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation


def lineage_of_best(digest: RunDigest, store: StoreReader) -> object:
    return lineage_tree(digest, store, 4)


def digest_of(run: Run) -> RunDigest:
    digest = RunDigest(run.store.manifest)
    assert digest.update(run.store, 60.0)
    return digest


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
    found = candidate_rows(digest_of(run), run.store, [2, 3, 5])
    assert found.baseline == leaderboard(run.store).baseline
    assert found.rows == {number: replace(board[number], lineage=()) for number in (1, 2, 3)}
    assert found.row(5) == found.rows[1], "the row whose result it shares"
    assert found.row(6) is None


def test_a_candidate_that_the_digest_has_not_read_has_no_row(run: Run) -> None:
    found = candidate_rows(RunDigest(run.store.manifest), run.store, [0, 2])
    assert (found.rows, found.row(2), len(found.ancestry)) == ({}, None, 0)


@pytest.mark.parametrize("read", [lambda digest, store: candidate_rows(digest, store, [40, 30, 0]), lineage_of_best])
def test_the_work_in_the_store_does_not_grow_with_the_run(tmp_path: Path, read: Callable[..., object]) -> None:
    steps = []
    for size in (50, 500):
        (tmp_path / str(size)).mkdir()
        run = Run(tmp_path / str(size), workers=1)
        run.propose(0, None)
        run.train(0, full(9.0))
        for number in range(1, size):
            run.propose(number, number - 1 if number < 50 else 0, "Insert in main: x2 = SIN(h0)")
            run.train(number, full(8.0 - 0.01 * number if number < 50 else 8.5))
        digest = digest_of(run)
        instructions: list[None] = []
        run.store._connection.set_progress_handler(partial(instructions.append, None), 1)
        read(digest, run.store)
        steps.append(len(instructions))
        run.store.close()
    assert steps[0] > 10
    assert steps[1] < 1.2 * steps[0], "instructions of SQLite"


def test_a_gain_is_the_loss_of_the_parent_minus_that_of_the_child(run: Run) -> None:
    rows = candidate_rows(digest_of(run), run.store, [0, 1, 2, 4])
    gain = edit_gain(rows.row(2), rows.row(1), rows.baseline.noise_nats)
    assert gain is not None
    assert gain.nats == pytest.approx(0.4)
    assert gain.bits_per_byte == pytest.approx(0.2)
    assert gain.inside_noise is True  # three trainings of the baseline: its noise is about half a nat
    assert edit_gain(rows.row(2), rows.row(1), 0.1) is not None
    assert edit_gain(rows.row(4), rows.row(0), 0.1) is None, "one that diverged has no rank"
    assert edit_gain(None, rows.row(0), 0.1) is None


def test_the_totals_count_what_became_of_each_kind(run: Run) -> None:
    totals = {each.kind: each for each in edit_kind_totals(digest_of(run))}
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
    assert edit_kind_totals(digest_of(run)) == ()
    run.store.add_event("proposed", {"kinds": {"Wrap": {"tried": 3, "invalid": 2, "known": 1}}})
    run.store.add_event("proposed", {"kinds": {"Wrap": {"tried": 1, "new": 1}}})
    assert edit_kind_totals(digest_of(run)) == (EditKindTotals("Wrap", 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, None, None),)


def test_the_tree_has_the_best_and_all_their_ancestors(run: Run) -> None:
    tree = lineage_tree(digest_of(run), run.store, 1)
    assert [(node.id, node.parents, node.place) for node in tree.nodes] == [
        (0, (), None),
        (1, (0,), None),
        (2, (1,), 1),
    ]
    assert tree.nodes[2].gain is not None
    assert [node.id for node in lineage_tree(digest_of(run), run.store, 10).nodes] == [0, 1, 2]


def test_of_a_large_tree_only_the_forks_are_shown(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, full(9.0))
    for number in range(1, 101):
        run.propose(number, number - 1 if number != 100 else 50, "Insert in main: x2 = SIN(h0)")
        run.train(number, full(9.0 - 0.01 * number))
    tree = lineage_tree(digest_of(run), run.store, 2)
    assert [(node.id, node.parents, node.skipped) for node in tree.nodes] == [
        (0, (), 0), (50, (0,), 49), (99, (50,), 48), (100, (50,), 0),
    ]  # fmt: skip
    assert tree.nodes[2].gain is not None
    assert tree.nodes[2].gain.nats == pytest.approx(0.01), "over its own parent"
