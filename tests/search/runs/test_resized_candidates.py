"""A search that resizes its candidates to a range of parameters: their units are recorded, used and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.models.parameter_range import parameters_at
from primer_search.primitives import build_graph
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.initial_programs import InitialProgram
from primer_search.search.one_program.export_block import export_candidate
from primer_search.search.results.confirmation import read_retrainings
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.search.studies.confirm import confirm
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_job import plan_training
from primer_search.tests.search.runs.test_controller import InterruptingTrainer, SyntheticTrainer, story
from primer_search.tests.support.command import command
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, open_controller, stop_after, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest

RANGE = (12_500, 15_000)
CANDIDATES = 8


def resizing(text: Path) -> RunConfig:
    """The tiny search with a baseline of 13,680 parameters at unit 5, its children in a range around it, no hurdles."""
    model = replace(CONFIG.model, unit=5, parameter_range=RANGE)
    trial = replace(CONFIG.trial, hurdles=0)
    return replace(CONFIG, model=model, trial=trial, data=DataConfig(f"text:{text}", 50_000))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("data") / "text")


def search(run: RunDirectory, text: Path, interrupted: set[int]) -> bool:
    """Search until there are enough candidates; return whether it was interrupted."""
    config = resizing(text)
    dataset = prepare_dataset(config.data, config.model.vocabulary)
    make = CandidateTrainerFactory(config, str(dataset), dna_to_json(BASELINE))
    executor = InlineExecutor(lambda: InterruptingTrainer(make(), interrupted))
    with open_controller(run, dataset, config, executor=executor, observe=stop_after(run, CANDIDATES)) as (
        controller,
        store,
    ):
        store.set_manifest({"baseline_dna": dna_to_json(BASELINE), "dataset": str(dataset)})
        try:
            controller.run(600.0)
        except KeyboardInterrupt:
            return True
    return False


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    found = RunDirectory(tmp_path_factory.mktemp("reference") / "run")
    assert not search(found, text, set())
    return found


def resized(run: RunDirectory) -> list[Any]:
    with Store.open(run.path, read_only=True) as store:
        return [each for each in store.candidates() if each.unit is not None]


def test_children_outside_the_range_are_resized_and_train_inside_it(run: RunDirectory) -> None:
    with Store.open(run.path, read_only=True) as store:
        model = RunConfig.from_dict(store.manifest["config"]).model
        candidates = {each.id: each for each in store.candidates()}
        trained = store.evaluations()
    assert model.parameter_range == RANGE
    assert candidates[0].unit is None
    assert any(each.unit is not None and each.same_as is None for each in candidates.values())
    for trial in trained:
        candidate = candidates[trial.candidate_id]
        size = parameters_at(build_graph(candidate.dna), model, candidate.unit or model.unit)
        assert RANGE[0] <= size <= RANGE[1]
        assert trial.evaluation.parameters in (None, size)
    assert any(trial.evaluation.outcome == "ok" and candidates[trial.candidate_id].unit for trial in trained)


def test_an_interrupted_search_makes_the_same_candidates(run: RunDirectory, text: Path, tmp_path: Path) -> None:
    again = RunDirectory(tmp_path / "run")
    interruptions = 0
    while search(again, text, {2}):
        interruptions += 1
        assert interruptions < 20
    assert interruptions
    with Store.open(run.path, read_only=True) as first, Store.open(again.path, read_only=True) as second:
        whole, resumed = story(first), story(second)
    shared = min(len(whole), len(resumed), CANDIDATES)
    assert [candidate for candidate, _ in whole[:shared]] == [candidate for candidate, _ in resumed[:shared]]


def test_the_unit_is_shown_and_exported_and_its_weights_fit(run: RunDirectory, tmp_path: Path) -> None:
    candidate = next(each for each in resized(run) if each.same_as is None)
    assert command("show", run.path, str(candidate.id), "--json").json["unit"] == candidate.unit
    assert (
        f"{candidate.unit} (width {8 * candidate.unit}) instead of 5"
        in command("show", run.path, str(candidate.id)).out
    )
    export_candidate(str(run.path), str(candidate.id), tmp_path / "block.py")
    assert f"width {8 * candidate.unit}" in (tmp_path / "block.py").read_text()
    weights = train_weights(plan_training(str(run.path), str(candidate.id)))
    assert weights.model.unit == candidate.unit
    assert weights.parameters["embedding"].shape == (300, 8 * candidate.unit)


def test_a_confirmation_trains_at_the_unit_of_the_candidate(run: RunDirectory) -> None:
    confirm(run.path, top=CANDIDATES, repeats=1)
    with Store.open(run.path, read_only=True) as store:
        units = {each.id: each.unit for each in store.candidates()}
        model = RunConfig.from_dict(store.manifest["config"]).model
        found = [(each, store.candidate(each.candidate_id or 0)) for each in read_retrainings(store.events())]
    assert any(units[candidate.id] for _, candidate in found)
    for retraining, candidate in found:
        size = parameters_at(build_graph(candidate.dna), model, candidate.unit or model.unit)
        assert retraining.evaluation.parameters == size


def recorder(requests: list[TrialRequest]) -> type:
    class Recorder(SyntheticTrainer):
        def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
            requests.append(request)
            return super().run(request, progress)

    return Recorder


def test_an_initial_program_is_resized_with_its_query_scale(text: Path, tmp_path: Path) -> None:
    config, requests = replace(resizing(text), trial=CONFIG.trial), list[TrialRequest]()
    run, trainer = RunDirectory(tmp_path / "run"), recorder(requests)()
    imported = [InitialProgram(1, "PRIMER_EZ", get("PRIMER_EZ", 5))]
    options = {"executor": InlineExecutor(lambda: trainer), "observe": stop_after(run, 5)}
    with open_controller(run, Path(), config, **options, initial_programs=imported) as (controller, store):
        controller.run(60.0)
        candidate = store.candidate(1)
    request = next(each for each in requests if each.candidate_id == 1)
    assert candidate.unit == request.unit == 3
    assert candidate.dna == get("PRIMER_EZ", 5)
    assert dna_from_json(request.dna) == get("PRIMER_EZ", 3)


def test_a_search_without_the_range_asks_for_no_unit(tmp_path: Path) -> None:
    requests: list[TrialRequest] = []
    run, trainer = RunDirectory(tmp_path / "run"), recorder(requests)()
    with open_controller(run, Path(), executor=InlineExecutor(lambda: trainer), observe=stop_after(run, 6)) as (
        controller,
        store,
    ):
        controller.run(60.0)
        assert all(each.unit is None for each in store.candidates())
        stored = {each.id: dna_to_json(each.dna) for each in store.candidates()}
    assert {request.unit for request in requests} == {None}
    assert all(request.dna == stored[request.candidate_id] for request in requests)
    assert json.loads(requests[0].dna)["format"] == 1
