"""A guided search through the real controller, store and trainer: an interrupted one continues exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.guided import guided_search, stop_rule
from primer_search.search.guided.guided_search import GuidedSearch
from primer_search.search.guided.stop_rule import POINTS
from primer_search.search.results.leaderboard import best_row, leaderboard
from primer_search.search.runs.progress_snapshot import ProgressSnapshot
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.tests.search.runs.test_controller import InterruptingTrainer, SyntheticTrainer, story
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, open_controller, stop_after, tiny_dataset
from primer_search.workers.executors.inline import InlineExecutor

CANDIDATES = 14
GUIDED = replace(
    CONFIG,
    trial=replace(CONFIG.trial, budget_steps=20, hurdles=0),
    search=replace(CONFIG.search, strategy="guided"),
)


@pytest.fixture(scope="module", autouse=True)
def strict_stops() -> Iterator[None]:
    """Stop more trainings than a search does: with trainings this short, nearly every child beats the baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stop_rule, "STOPS", {1: 0.1, 2: 0.5, 3: 0.9999})
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def search(run: RunDirectory, dataset: Path, interrupted: set[int]) -> bool:
    """Search until there are enough candidates; return whether it was interrupted."""
    make = CandidateTrainerFactory(GUIDED, str(dataset), dna_to_json(BASELINE))
    executor = InlineExecutor(lambda: InterruptingTrainer(make(), interrupted))
    observe = stop_after(run, CANDIDATES)
    with open_controller(run, dataset, GUIDED, executor=executor, observe=observe) as (controller, _):
        try:
            controller.run(36_000.0)
        except KeyboardInterrupt:
            return True
    return False


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, list[Any]]:
    run = RunDirectory(tmp_path_factory.mktemp("reference") / "run")
    assert not search(run, dataset, set())
    with Store.open(run.path, read_only=True) as store:
        return run, story(store)


def test_every_training_is_evaluated_at_the_points(reference: tuple[RunDirectory, list[Any]]) -> None:
    evaluations = [each for _, results in reference[1] for each in results or ()]
    steps = [round(20 * point) for point in POINTS]
    for each in evaluations:
        if each["outcome"] == "ok":
            assert each["hurdle_steps"] == steps
        elif each["outcome"] == "stopped_at_hurdle":
            assert each["hurdle_steps"] == steps[: len(each["hurdle_steps"])]
            assert "predicted final fitness" in each["message"]
    assert sum(each["outcome"] == "ok" for each in evaluations) > 5
    assert any(each["outcome"] == "stopped_at_hurdle" for each in evaluations)


def test_an_interrupted_guided_search_continues_exactly(
    reference: tuple[RunDirectory, list[Any]], dataset: Path, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    # In the baseline's second training, then in children's, then to the end.
    interruptions = [search(run, dataset, fatal) for fatal in ({1}, {3}, {4}, set())]
    assert interruptions == [True, True, True, False]
    with Store.open(run.path, read_only=True) as store:
        assert story(store) == reference[1]


def test_a_replayed_run_has_the_same_edits_and_standings(
    reference: tuple[RunDirectory, list[Any]], dataset: Path
) -> None:
    with open_controller(reference[0], dataset, GUIDED, executor=InlineExecutor(SyntheticTrainer)) as (
        controller,
        store,
    ):
        strategy = controller.evolution
        assert isinstance(strategy, GuidedSearch)
        edits = {event.candidate_id: event.payload.get("edits") for event in store.events() if event.kind == "proposed"}
        for candidate in store.candidates():
            stored = edits[candidate.id]
            if stored is not None:
                assert strategy._edits[candidate.id] == frozenset(stored)
            elif candidate.id != BASELINE_ID and candidate.same_as is None:
                assert candidate.id in strategy._edits[candidate.id]
        assert len(strategy.ranking()) > 4
        assert strategy.standings()[BASELINE_ID].posterior.mean == 0.0


def test_both_parents_of_a_merge_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided_search, "MERGE_SHARE", 1.0)
    monkeypatch.setattr(guided_search, "MERGE_GAIN", -1.0)  # any merge will do
    run = RunDirectory(tmp_path / "run")
    executor = InlineExecutor(SyntheticTrainer)
    with open_controller(run, tmp_path, GUIDED, executor=executor, observe=stop_after(run, 20)) as (controller, store):
        controller.run(36_000.0)
        merges = [each for each in store.ancestry().values() if each.merged_with is not None]
        payloads = {event.candidate_id: event.payload for event in store.events() if event.kind == "proposed"}
    assert merges
    for each in merges:
        assert each.mutations == (f"Merge with #{each.merged_with}",)
        assert payloads[each.id]["parents"] == [each.parent, each.merged_with]


def test_the_progress_shows_the_best_of_the_leaderboard(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    states: list[ProgressSnapshot] = []

    def observe(state: ProgressSnapshot) -> None:
        states.append(state)
        stop_after(run, 30)(state)

    executor = InlineExecutor(SyntheticTrainer)
    with open_controller(run, tmp_path, GUIDED, executor=executor, observe=observe) as (controller, store):
        controller.run(36_000.0)
        rows = leaderboard(store).rows
    shown, row = states[-1].best, best_row(rows)
    assert shown is not None and row is not None
    assert any(each.trials > 1 for each in rows if each.id != BASELINE_ID), "a leader is trained again"
    assert (shown.id, shown.bits_per_byte) == (row.id, row.bits_per_byte)
    assert shown.loss_nats == shown.fitness_nats == row.loss_nats
