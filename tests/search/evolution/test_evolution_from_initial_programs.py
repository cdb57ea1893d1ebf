"""Searches from initial programs: parents, survivors, and equal results after an interruption or a kill.

Trials are in steps here, inline: an interrupted search and one that was not, in another process, agree to the last bit.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.search.evolution.candidate import BASELINE_ID, Individual
from primer_search.search.evolution.evolution import Evolution
from primer_search.search.evolution.initial_programs import InitialProgram
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.tests.search.evolution.test_evolution import fault, ids, propose, result, twin_of
from primer_search.tests.search.runs.test_controller import (
    CANDIDATES,
    QUICK,
    InterruptingTrainer,
    SyntheticTrainer,
    kill_at_random_moments,
    story,
)
from primer_search.tests.support import tiny_runs
from primer_search.tests.support.tiny_runs import (
    BASELINE,
    CONFIG,
    INITIAL_PROGRAMS,
    open_controller,
    stop_after,
    tiny_dataset,
)
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import TrialRequest

NAMED_BASELINE = InitialProgram(BASELINE_ID, "TRANSFORMER", BASELINE)


def founded(*initial_programs: InitialProgram, **search: Any) -> Evolution:
    config = replace(CONFIG, search=replace(CONFIG.search, **search))
    return Evolution(config, 0, BASELINE, initial_programs or INITIAL_PROGRAMS)


def trained(state: Evolution, losses: dict[int, float]) -> Evolution:
    """Let all the trials of the baseline and the initial programs end with these losses."""
    for number in state.trials_left:
        state.tell(number, result(losses[number]))
    return state


# --- evolution ---


def test_initial_programs_have_an_origin_and_no_parent() -> None:
    state = founded()
    assert state.next_id == 3
    for initial_program in INITIAL_PROGRAMS:
        candidate = state.candidate(initial_program.candidate_id)
        assert (candidate.dna, candidate.parent, candidate.same_as) == (initial_program.dna, None, None)
        assert candidate.mutations == (f"Imported from {initial_program.origin}",)


def test_the_baseline_is_trained_first_then_initial_programs_in_turn_as_often() -> None:
    state = founded(baseline_trials=3)
    assert state.trials_left == [0, 0, 0, 1, 2, 1, 2, 1, 2]
    state.tell(1, result(5.0))
    assert state.trials_left == [0, 0, 0, 2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("initial_programs", "expected"),
    [
        (INITIAL_PROGRAMS, [1, 2, 1, 2]),
        (INITIAL_PROGRAMS[:1], [1, 1, 1, 1]),
        ((NAMED_BASELINE, *INITIAL_PROGRAMS), [0, 1, 2, 0]),
        ((NAMED_BASELINE,), [0, 0, 0, 0]),
    ],
)
def test_the_population_starts_as_copies_of_the_named_programs_in_equal_parts(
    initial_programs: tuple[InitialProgram, ...], expected: list[int]
) -> None:
    state = trained(founded(*initial_programs), {0: 5.0, 1: 4.0, 2: 6.0})
    assert ids(state) == expected
    assert [member.fitness for member in state.population.members] == [5.0 - (n == 1) + (n == 2) for n in expected]


def test_only_trained_initial_programs_become_parents() -> None:
    state = founded()
    assert not state.ready
    state.tell(BASELINE_ID, result(5.0))
    state.tell(1, fault())
    assert not state.ready
    state.tell(2, result(6.0))
    assert state.ready
    assert {propose(state).parent for _ in range(5)} == {2}


def test_initial_programs_become_parents_even_if_all_fail() -> None:
    state = founded()
    for number in state.trials_left:
        state.tell(number, fault() if number else result(5.0))
    assert state.population.members[0] == Individual(1, None)
    assert state.ready and propose(state).parent in (1, 2)


def test_the_fitness_of_an_initial_program_is_the_mean_of_its_trials() -> None:
    state = founded()
    state.tell(1, result(3.0))
    assert state.fitness(1) is None
    state.tell(1, result(4.0))
    assert state.fitness(1) == 3.5


def test_the_better_initial_program_wins_and_a_child_equal_to_the_baseline_costs_nothing() -> None:
    state = trained(founded(tournament=4), {0: 5.0, 1: 4.0, 2: 6.0})
    assert {propose(state).parent for _ in range(5)} == {1}
    twin = twin_of(state, BASELINE_ID)
    assert state.population.members[-1] == Individual(twin.id, 5.0)


def test_without_selection_initial_programs_are_parents_equally_often() -> None:
    state = trained(founded(strategy="random"), {0: 5.0, 1: 4.0, 2: 6.0})
    parents = Counter(propose(state).parent for _ in range(30))
    assert set(parents) == {1, 2} and min(parents.values()) > 5


# --- the controller ---


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A search from initial programs that nothing disturbs, in a separate process."""
    path = tmp_path_factory.mktemp("reference") / "run"
    subprocess.run(arguments_of(path, dataset), check=True, capture_output=True)
    with Store.open(path, read_only=True) as store:
        return story(store)


def arguments_of(path: Path, dataset: Path) -> list[Any]:
    return [sys.executable, tiny_runs.__file__, path, dataset, str(CANDIDATES), "initial_programs"]


def test_a_search_trains_its_initial_programs_in_full_and_mutates_them(reference: list[Any]) -> None:
    assert [len(results) for _, results in reference[:3]] == [2, 2, 2]
    for _, results in reference[:3]:
        assert {each["outcome"] for each in results} == {"ok"}
        assert results[0]["loss_nats"] != results[1]["loss_nats"]
    parents = {candidate.parent for candidate, _ in reference[3:]}
    assert parents and BASELINE_ID not in parents


def test_an_interrupted_search_from_initial_programs_continues_exactly(
    reference: list[Any], dataset: Path, run: RunDirectory
) -> None:
    make = CandidateTrainerFactory(CONFIG, str(dataset))
    interruptions = 0
    # In the baseline's second trial, in an initial program's first, in an initial program's second, in a child's; then
    # to the end.
    for fatal in ({1}, {2}, {2}, {1}, set()):
        executor = InlineExecutor(lambda fatal=fatal: InterruptingTrainer(make(), fatal))
        observe = stop_after(run, CANDIDATES)
        with open_controller(run, dataset, executor=executor, observe=observe, initial_programs=INITIAL_PROGRAMS) as (
            controller,
            _,
        ):
            try:
                controller.run(600.0)
            except KeyboardInterrupt:
                interruptions += 1
    assert interruptions == 4
    with Store.open(run.path, read_only=True) as store:
        assert story(store) == reference


@pytest.mark.slow
def test_a_search_from_initial_programs_that_is_killed_at_random_moments_loses_nothing(
    reference: list[Any], dataset: Path, run: RunDirectory
) -> None:
    assert kill_at_random_moments(arguments_of(run.path, dataset)) >= 1
    subprocess.run(arguments_of(run.path, dataset), check=True, capture_output=True)
    with Store.open(run.path, read_only=True) as store:
        assert story(store) == reference


def test_a_controller_killed_while_recording_initial_programs_records_the_rest(run: RunDirectory) -> None:
    with open_controller(run, Path(), QUICK, executor=InlineExecutor(SyntheticTrainer)) as (_, store):
        assert [candidate.id for candidate in store.candidates()] == [BASELINE_ID]
    with open_controller(
        run, Path(), QUICK, executor=InlineExecutor(SyntheticTrainer), initial_programs=INITIAL_PROGRAMS
    ) as (_, store):
        assert [candidate.id for candidate in store.candidates()] == [BASELINE_ID, 1, 2]


class SeenTrainer(SyntheticTrainer):
    """Made-up losses; it keeps what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[TrialRequest] = []

    def run(self, request: TrialRequest, progress: Any) -> Any:
        self.requests.append(request)
        return super().run(request, progress)


def test_initial_programs_pass_hurdles_and_count_by_their_mean(run: RunDirectory) -> None:
    trainer = SeenTrainer()
    config = replace(QUICK, search=replace(QUICK.search, hurdle_minimum=1, control_every=2))
    observe = stop_after(run, 12)
    executor = InlineExecutor(lambda: trainer)
    with open_controller(
        run, Path(), config, executor=executor, observe=observe, initial_programs=INITIAL_PROGRAMS
    ) as (
        controller,
        store,
    ):
        controller.run(60.0)
        state, finished = controller.state(), store.evaluations()
        originals = [one for one in store.candidates() if one.same_as is None and one.id not in (0, 1, 2)]
    by_candidate: dict[int, list[TrialRequest]] = {}
    for request in trainer.requests:
        by_candidate.setdefault(request.candidate_id, []).append(request)
    for number in (0, 1, 2):
        assert all(hurdle.loss_nats is None for request in by_candidate[number] for hurdle in request.hurdles)
        assert len({request.seed for request in by_candidate[number]}) == len(by_candidate[number])
    assert (
        all(hurdle.loss_nats is not None for hurdle in trainer.requests[-1].hurdles)
        or trainer.requests[-1].candidate_id == 0
    )
    assert [len(by_candidate[number]) for number in (1, 2)] == [2, 2]
    assert len(by_candidate[BASELINE_ID]) - 2 == pytest.approx(len(originals) // 2, abs=1)
    losses: dict[int, list[float]] = {}
    for trial in finished:
        assert trial.evaluation.loss_nats is not None
        losses.setdefault(trial.candidate_id, []).append(trial.evaluation.loss_nats)
    means = {number: sum(found) / len(found) for number, found in losses.items() if number}
    best = min(means, key=lambda number: means[number])
    assert state.best is not None
    assert (state.best.id, state.best.loss_nats) == (best, pytest.approx(means[best]))
