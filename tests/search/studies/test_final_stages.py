"""The rule of the end of a run, and that real searches follow it within their budget."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from primer_search.configs.scale_option import larger_scale, parse_scales
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig, SearchConfig
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.results.confirmation import read_retrainings
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.scale_ladder import Scale
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.studies import final_stages as rule
from primer_search.search.studies import study
from primer_search.search.studies.confirm import confirm_store
from primer_search.search.studies.end_of_run import EndOfRun, confirm_at_end
from primer_search.search.studies.final_stages import Stage, Workers, final_stages, lengthened
from primer_search.search.studies.study import QUIET, StudyOptions
from primer_search.search.studies.training_time import larger_training_seconds, operations, training_seconds
from primer_search.tests.support.tiny_runs import (
    BASELINE,
    CONFIG,
    INITIAL_PROGRAMS,
    open_controller,
    tiny_dataset,
    write_text,
)
from primer_search.workers.config import DataConfig, TrialConfig
from primer_search.workers.protocol import Evaluation, TrialRequest

TWO_CORES = Workers.of("ray", 2)
LAPTOP = 22.0
"""Seconds of a training of 1,000 steps at the preset `laptop` on one of two cores."""


def shape(stages: tuple[Stage, ...]) -> list[tuple[int, int, int]]:
    """Candidates, library programs and repeats of each stage."""
    return [(stage.top, len(stage.also), stage.repeats) for stage in stages]


def test_ten_minutes_on_two_cores_end_with_two_candidates_trained_three_times() -> None:
    (stage,) = final_stages(SearchConfig(), 600, TWO_CORES, 1.1 * LAPTOP, 6 * LAPTOP)
    assert (stage.larger, stage.top, stage.also, stage.repeats, stage.trainings) == (False, 2, (), 3, 9)
    assert stage.seconds <= 150


def test_trainings_are_repeated_up_to_twice_as_often_where_that_fits_and_no_candidate_is_lost_to_it() -> None:
    found = [shape(final_stages(SearchConfig(), 600, TWO_CORES, each, None)) for each in (7.0, 8.0, 13.0, 16.0, 30.0)]
    assert found == [[(5, 0, 6)], [(5, 0, 5)], [(5, 0, 3)], [(4, 0, 3)], [(1, 0, 4)]]


def test_longer_budgets_go_up_in_scale_and_long_ones_train_more_programs() -> None:
    two_hours, day, week = (
        final_stages(SearchConfig(), hours * 3600, TWO_CORES, LAPTOP, 6 * LAPTOP) for hours in (2, 24, 168)
    )
    assert shape(two_hours) == [(5, 1, 5), (2, 1, 5)]
    assert [stage.larger for stage in two_hours] == [False, True]
    assert shape(day) == [(10, 1, 6), (4, 1, 6)]
    assert shape(week) == [(20, 1, 6), (8, 1, 6)]


def test_trainings_at_the_larger_size_get_longer_with_the_budget_unless_the_setting_names_theirs() -> None:
    config = replace(CONFIG, search=replace(CONFIG.search, scale_up="layers=2,unit=4"))
    larger, steps = larger_scale(config), CONFIG.trial.budget_steps
    assert larger is not None
    found = [lengthened(larger, config, hours * 3600).trial.budget_steps for hours in (2, 24, 168)]
    assert found == [steps, 4 * steps, 16 * steps]
    end = EndOfRun.of(config, BASELINE, larger, 86_400, 1)
    assert end.larger is not None and end.larger.trial.budget_steps == 4 * steps
    assert end.scale == f"layers=2,unit=4,budget={4 * steps}"
    (parsed,) = parse_scales([end.scale], config)
    assert Scale.of(parsed) == Scale.of(end.larger)
    named = replace(config, search=replace(config.search, scale_up=f"layers=2,unit=4,budget={2 * steps}"))
    end = EndOfRun.of(named, BASELINE, larger_scale(named), 86_400, 1)
    assert end.larger is not None and end.larger.trial.budget_steps == 2 * steps
    assert end.scale == named.search.scale_up


@pytest.mark.parametrize("seconds", [10.0, 100.0, 400.0, 2000.0, 1e5])
@pytest.mark.parametrize("hours", [0.05, 0.5, 1.0, 3.0, 24.0, 168.0])
def test_the_stages_fit_into_a_quarter_of_the_budget_and_a_candidate_is_always_compared(
    hours: float, seconds: float
) -> None:
    stages = final_stages(SearchConfig(), hours * 3600, TWO_CORES, seconds, 5 * seconds)
    assert sum(stage.seconds for stage in stages) <= 0.25 * hours * 3600
    assert all(stage.top >= 1 and stage.repeats >= 2 for stage in stages)


def test_a_short_time_drops_library_programs_and_candidates_and_then_the_larger_size() -> None:
    times = (20.0, 25.0, 30.0, 50.0, 130.0, 200.0, 1000.0)
    found = [shape(final_stages(SearchConfig(), 3600, TWO_CORES, each, 4 * each)) for each in times]
    assert found == [
        [(5, 1, 3), (2, 1, 4)],
        [(5, 1, 4), (1, 1, 3)],
        [(5, 1, 3), (2, 1, 2)],
        [(5, 1, 4)],  # without a larger size, a stage takes all of the time
        [(2, 1, 3)],
        [(1, 0, 4)],
        [],
    ]


def test_nothing_is_kept_where_it_is_turned_off_and_no_larger_size_without_one() -> None:
    assert final_stages(SearchConfig(confirm_top=0), 7200, TWO_CORES, LAPTOP, LAPTOP) == ()
    assert [stage.larger for stage in final_stages(SearchConfig(), 7200, TWO_CORES, LAPTOP, None)] == [False]
    primer = final_stages(SearchConfig(baseline="PRIMER_EZ"), 7200, TWO_CORES, LAPTOP, LAPTOP)
    assert all(stage.also == () for stage in primer)


@pytest.mark.parametrize(("minutes", "slots", "top"), [(2, 2, 0), (10, 2, 1), (10, 8, 5), (60, 2, 5)])
def test_budgets_in_seconds_are_planned_from_the_budget_of_a_trial(minutes: float, slots: int, top: int) -> None:
    config = replace(RunConfig(), trial=TrialConfig(budget_seconds=20.0))
    each = training_seconds(config, ())
    assert each is not None and each == 1.2 * 20 + 10
    stages = final_stages(config.search, 60 * minutes, Workers.of("ray", slots), each, None)
    assert [stage.top for stage in stages] == ([top] if top else [])


def trained(wall: float = 20.0) -> Evaluation:
    return Evaluation(
        "ok", loss_nats=4.0, train_seconds=14.0, evaluate_seconds=1.0, compile_seconds=5.0, wall_seconds=wall
    )


def test_the_time_kept_follows_from_the_baselines_trainings_in_this_run() -> None:
    config = replace(CONFIG, workers=replace(CONFIG.workers, executor="ray"))
    end = EndOfRun.of(config, library.get("TRANSFORMER", config.model.unit), None, 600, 2)
    assert end.reserve([]) == 150, "a quarter, while nothing is measured"
    assert 100 < end.reserve([trained(), trained()]) < 150
    assert end.reserve([trained(1.0)]) < 40
    assert end.reserve([trained(1000.0)]) == 0, "not one candidate can be retrained"
    off = replace(config, search=replace(config.search, confirm_top=0))
    assert EndOfRun.of(off, library.get("TRANSFORMER", 1), None, 600, 2).reserve([]) == 0


def test_a_budget_for_a_few_trainings_is_said_to_be_short_once_one_has_been_timed() -> None:
    config = replace(CONFIG, trial=replace(CONFIG.trial, unit="steps"))
    end = EndOfRun.of(config, library.get("TRANSFORMER", config.model.unit), None, 120, 2)
    assert end.short_budget([], 60.0) == "", "nothing is known before the first training"
    assert "takes about 22s, so about 3 on each worker" in end.short_budget([trained()], 66.0)
    assert end.short_budget([trained()], 200.0) == ""
    timed = replace(config, trial=replace(config.trial, unit="reference_seconds"))
    in_seconds = EndOfRun.of(timed, library.get("TRANSFORMER", config.model.unit), None, 120, 2)
    assert in_seconds.short_budget([trained()], 1.0) == "", "the plan has fitted the trainings to the budget"


def test_a_larger_training_takes_longer_by_its_operations_and_its_layers() -> None:
    larger = replace(CONFIG, model=replace(CONFIG.model, layers=2, unit=2))
    dna = library.get("TRANSFORMER", CONFIG.model.unit)
    ratio = operations(larger, library.get("TRANSFORMER", 2)) / operations(CONFIG, dna)
    assert 3 < ratio < 8
    expected = 1.1 * 20 * (0.75 * ratio + 0.25 * 2)
    assert larger_training_seconds(CONFIG, larger, ratio, [trained()]) == pytest.approx(expected)
    twice = replace(CONFIG, trial=replace(CONFIG.trial, budget_steps=2 * CONFIG.trial.budget_steps))
    assert operations(twice, dna) == 2 * operations(CONFIG, dna)


def test_a_larger_training_that_is_not_brief_compiles_its_whole_step() -> None:
    own = replace(CONFIG, workers=replace(CONFIG.workers, accel="cpu"), trial=replace(CONFIG.trial, unit="steps"))
    larger = replace(own, model=replace(own.model, stack="unroll"))
    brief, whole = (larger_training_seconds(own, one, 1.0, [trained()]) for one in (own, larger))
    assert brief == pytest.approx(1.1 * 20) and whole == pytest.approx(1.1 * 20 * (0.75 + 0.25 * 2.0))


# --- the end of a real run -------------------------------------------------------------------------------------

SINE = INITIAL_PROGRAMS[0].dna


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A run with a trained candidate; whatever the machine's speed, all trainings at its end seem to fit."""
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rule.Workers, "fitting", lambda *_: 1000)
    search = replace(CONFIG.search, confirm_top=1, confirm_repeats=1, scale_up="layers=2,unit=4")
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, unit=2),
        trial=replace(CONFIG.trial, price=True),
        search=search,
        data=DataConfig(f"text:{write_text(tmp_path / 'text')}", 50_000),
    )
    path = tmp_path / "run"
    path.mkdir()
    manifest = {"config": config.to_dict(), "seed": 0, "baseline_dna": dna_to_json(BASELINE), "workers": 1}
    with Store.create(path, manifest) as store:
        for number, dna in enumerate((BASELINE, SINE)):
            store.add_candidate(Candidate(number, dna, 0 if number else None, (), f"hash {number}"))
            store.start_trial(TrialRequest(number, number, "", seed=number))
            store.finish_trial(number, replace(trained(), loss_nats=4.0 - number, bits_per_byte=1.5))
        yield store


def test_a_long_run_in_steps_ends_with_its_best_retrained_at_both_sizes(store: Store) -> None:
    config = RunConfig.from_dict(store.manifest["config"])
    end = EndOfRun.of(config, BASELINE, larger_scale(config), 3600, 1)
    lines: list[str] = []
    assert confirm_at_end(store, end, StudyOptions(deadline=time.monotonic() + 36_000, tell=lines.append)) == ""
    board, notes = leaderboard(store), [event.payload for event in store.events() if event.kind == "note"]
    assert [note["why"] for note in notes] == ["the search ended with a confirmation"]
    assert {row.name for row in board.confirmed} == {"baseline", "#1", "PRIMER_EZ"}
    assert all(row.trainings == 2 and row.price is not None for row in board.confirmed)
    assert board.ladder is not None
    assert [(scale.layers, scale.unit) for scale in board.ladder.scales] == [(1, 2), (2, 4)]
    assert {entry.result.name for entry in board.ladder.results[1]} == {"baseline", "#1", "PRIMER_EZ"}
    assert "retraining the best candidates at 2 layers of width 32, 12 steps: 6 of 6 trainings finished" in lines


def test_what_time_cuts_off_is_recorded_and_said_and_confirm_completes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(study, "time", clock)  # real time would cut off more on a busy machine

    def tell(line: str) -> None:
        if ": 3 of 1000 trainings finished" in line:
            clock.now = 1e9

    config = RunConfig.from_dict(store.manifest["config"])
    config = replace(config, search=replace(config.search, confirm_repeats=400))
    end = EndOfRun.of(config, BASELINE, None, 600, 1)
    unfinished = confirm_at_end(store, end, StudyOptions(deadline=1e6, tell=tell))
    done, notes = read_retrainings(store.events()), [e.payload["why"] for e in store.events() if e.kind == "note"]
    assert len(done) == 3
    assert unfinished.startswith("3 of 1000 retrainings finished in time: complete them with `primer-search confirm ")
    assert unfinished.endswith("--top 1 --repeats 500`")
    assert notes == [f"the search ended with a confirmation: {unfinished}"]
    repeats = len(done) // 2 + 1
    confirm_store(store, config, QUIET, top=1, repeats=repeats)
    found = read_retrainings(store.events())
    assert found[: len(done)] == done and len(found) == 2 * repeats


def test_a_search_ends_early_by_the_time_that_its_end_takes(tmp_path: Path) -> None:
    seen: list[int] = []

    def reserve(baseline: Sequence[Evaluation]) -> float:
        seen.append(len(baseline))
        return 0.0 if len(baseline) < 2 else 600.0

    with open_controller(RunDirectory(tmp_path / "run"), tiny_dataset(tmp_path)) as (controller, _):
        assert controller.run(600.0, reserve=reserve) == "ended"
    assert seen == [0, 1, 2]
