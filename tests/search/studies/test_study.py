"""Studies: the order of trainings, the log, interruptions, calibration and displays."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs.assembler import assemble
from primer_search.search.config import RunConfig
from primer_search.search.reports.progress.study_progress import StudyLines, StudyPanel
from primer_search.search.studies.study import Study, StudyOptions
from primer_search.search.studies.study_log import StudyLog
from primer_search.search.studies.study_queue import Arm, StudyState, Training
from primer_search.system.signals import Interrupted
from primer_search.tests.support.formula_trainer import FormulaTrainer, structure_key, use_trainer
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, CONSTANTS, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.protocol import Evaluation, HurdleThreshold

SQUARED = assemble(
    {"main": "mixed = CONV_1X1 h0 width=8\nbent = SQUARE mixed\noutput = ADD bent h0"}, CONSTANTS, (8, 16)
)
ARMS = (Arm("plain", BASELINE), Arm("squared", SQUARED))
POINTS = (3.0, 6.0)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    text = write_text(tmp_path_factory.mktemp("data") / "text")
    return replace(CONFIG, data=DataConfig(f"text:{text}", 50_000))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FormulaTrainer:
    """Losses from a formula instead of real trainings."""
    return use_trainer(FormulaTrainer(budget=CONFIG.trial.budget), monkeypatch)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "study-cache"))


def train(config: RunConfig, log: Path | None, arms: Sequence[Arm] = ARMS, **options: Any) -> list[Training]:
    """Train arms in a new study; `observe` and `tell` are passed to it."""
    seeds, points = options.pop("seeds", (0, 1)), options.pop("points", POINTS)
    with Study(config, BASELINE, log, StudyOptions(**options), points=points) as study:
        return study.train(arms, seeds)


def trained_in(log: Path) -> list[tuple[str, int]]:
    """Return the arms and seeds in the order of the log."""
    lines = map(json.loads, log.read_text().splitlines())
    return [(line["arm"], line["seed"]) for line in lines if "arm" in line]


def test_real_trainings_use_their_learning_rate_and_measure_points_and_test_loss(config: RunConfig) -> None:
    arms = (ARMS[0], Arm("faster", BASELINE, learning_rate_factor=2.0))
    plain, faster = [training.evaluation for training in train(config, None, arms, seeds=(0,))]
    for result in (plain, faster):
        assert result.outcome == "ok", result
        assert result.hurdle_steps == (3, 6)
        assert len(result.hurdle_losses) == 2
        assert result.test_bits_per_byte is not None
    assert plain.curve[0][2] == faster.curve[0][2], "the same text, from the same parameters"
    assert plain.loss_nats != faster.loss_nats


def test_all_arms_are_trained_with_one_seed_before_the_next(
    config: RunConfig, tmp_path: Path, trainer: FormulaTrainer
) -> None:
    log = tmp_path / "folder" / "record.jsonl"
    found = train(config, log)
    order = [("plain", 0), ("squared", 0), ("plain", 1), ("squared", 1)]
    assert [(training.arm.name, training.seed) for training in found] == order
    assert trained_in(log) == order
    assert [request.seed for request in trainer.seen] == [0, 0, 1, 1]
    assert {request.hurdles for request in trainer.seen} == {tuple(HurdleThreshold(at, None) for at in POINTS)}


def test_the_settings_of_an_arm_reach_its_trainings(config: RunConfig, trainer: FormulaTrainer) -> None:
    train(config, None, (ARMS[0], Arm("wide", BASELINE, learning_rate_factor=0.5, unit=2)), seeds=(7,))
    settings = [(one.learning_rate_factor, one.unit, one.seed, one.test) for one in trainer.seen]
    assert settings == [(1.0, None, 7, True), (0.5, 2, 7, True)]


def test_a_finished_study_is_read_from_its_log(config: RunConfig, tmp_path: Path, trainer: FormulaTrainer) -> None:
    log = tmp_path / "record.jsonl"
    first, content = train(config, log), log.read_text()
    told: list[str] = []
    assert train(config, log, tell=told.append) == first
    assert "starting the workers" not in told
    assert log.read_text() == content


def test_an_interrupted_study_resumes_and_ends_like_an_uninterrupted_one(
    config: RunConfig, tmp_path: Path, trainer: FormulaTrainer
) -> None:
    log = tmp_path / "record.jsonl"

    def interrupt(state: StudyState) -> None:
        if state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"3 of 4 trainings.*record\.jsonl"):
        train(config, log, observe=interrupt)
    with log.open("ab") as file:
        file.write(b'{"arm": "squared", "seed": 1, "ev')  # the crash tore a line
    states: list[StudyState] = []
    found = train(config, log, observe=states.append)
    assert trained_in(log) == [("plain", 0), ("squared", 0), ("plain", 1), ("squared", 1)]
    assert (states[0].done, states[-1].done, states[-1].total) == (3, 4, 4)
    whole = train(config, None)
    assert [replace(one.evaluation, wall_seconds=0.0) for one in found] == [
        replace(one.evaluation, wall_seconds=0.0) for one in whole
    ]


def test_more_arms_and_seeds_can_be_added_to_a_log(config: RunConfig, tmp_path: Path, trainer: FormulaTrainer) -> None:
    log = tmp_path / "record.jsonl"
    train(config, log, ARMS[:1], seeds=(0,))
    arms = (replace(ARMS[0], name="another name"), replace(ARMS[0], name="faster", learning_rate_factor=2.0))
    found = train(config, log, arms, seeds=(0, 5))
    assert trained_in(log) == [("plain", 0), ("faster", 0), ("another name", 5), ("faster", 5)]
    assert found[0].evaluation.loss_nats != found[1].evaluation.loss_nats


def test_arms_with_the_same_key_are_trained_once(config: RunConfig, tmp_path: Path, trainer: FormulaTrainer) -> None:
    log = tmp_path / "record.jsonl"
    found = train(config, log, (ARMS[0], replace(ARMS[0], name="twin")), seeds=(0,))
    assert [training.arm.name for training in found] == ["plain", "twin"]
    assert found[0].evaluation == found[1].evaluation
    assert trained_in(log) == [("plain", 0)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trial": replace(CONFIG.trial, budget_steps=13)}, r"trial\.budget_steps was 12 and is 13"),
        (
            {"optimizer": replace(CONFIG.optimizer, learning_rate=0.5)},
            r"optimizer\.learning_rate was 0\.01 and is 0\.5",
        ),
    ],
)
def test_a_log_with_other_settings_is_refused(
    config: RunConfig, tmp_path: Path, trainer: FormulaTrainer, change: dict[str, Any], words: str
) -> None:
    log = tmp_path / "record.jsonl"
    train(config, log, ARMS[:1], seeds=(0,))
    content = log.read_text()
    with pytest.raises(UsageError, match=words):
        train(replace(config, **change), log)
    assert log.read_text() == content


def test_a_log_with_another_text_is_refused(config: RunConfig, tmp_path: Path, trainer: FormulaTrainer) -> None:
    log = tmp_path / "record.jsonl"
    train(config, log, ARMS[:1], seeds=(0,))
    text = Path(config.data.source.removeprefix("text:"))
    more = text / "more.txt"
    try:
        more.write_text("something else entirely " * 50)
        with pytest.raises(UsageError, match="dataset was"):
            train(config, log)
    finally:
        more.unlink()


@pytest.mark.parametrize("content", ["no json\n", "[1]\n", '{"format": 9}\n', "a torn line of something else"])
def test_a_file_that_is_not_a_log_is_refused_and_not_changed(config: RunConfig, tmp_path: Path, content: str) -> None:
    log = tmp_path / "record.jsonl"
    log.write_text(content)
    with pytest.raises(UsageError, match=r"record\.jsonl is"):
        train(config, log)
    assert log.read_text() == content


@pytest.mark.parametrize("kept", [0, 5, 200])
def test_an_incomplete_header_is_written_again(tmp_path: Path, kept: int) -> None:
    path, study = tmp_path / "record.jsonl", {"model": {"name": "x" * 300}}
    StudyLog(path, study).close()
    path.write_bytes(path.read_bytes()[:kept])
    with StudyLog(path, study) as log:
        log.add("a", "key", 0, Evaluation("ok", loss_nats=1.0))
    with StudyLog(path, study) as log:
        assert log.result("key", 0) == Evaluation("ok", loss_nats=1.0)


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with StudyLog(path, {}), pytest.raises(UsageError, match="another process"):
        StudyLog(path, {})
    StudyLog(path, {}).close()


@pytest.mark.parametrize("points", [(0.0,), (6.0, 3.0), (12.0,), (3.0, 3.0)])
def test_points_outside_the_budget_are_refused(config: RunConfig, points: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="must rise"):
        Study(config, BASELINE, None, points=points)


@pytest.mark.parametrize(("failures", "outcome"), [(2, "ok"), (3, "failed")])
def test_a_lost_training_is_repeated_twice_and_then_not_logged(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, outcome: str
) -> None:
    config = replace(config, search=replace(config.search, retries=2))
    log = tmp_path / "record.jsonl"
    use_trainer(FormulaTrainer(failures={structure_key(BASELINE): failures}), monkeypatch)
    first, second = train(config, log, seeds=(0,))
    assert (first.evaluation.outcome, second.evaluation.outcome) == (outcome, "ok")
    assert set(trained_in(log)) == ({("plain", 0), ("squared", 0)} if outcome == "ok" else {("squared", 0)})
    again = train(config, log, seeds=(0,))
    assert [training.evaluation.outcome for training in again] == ["ok", "ok"]


def test_reference_seconds_are_calibrated_once_and_logged(
    config: RunConfig, tmp_path: Path, trainer: FormulaTrainer
) -> None:
    trial = replace(config.trial, unit="reference_seconds", budget_seconds=10.0)
    config, log = replace(config, trial=trial), tmp_path / "record.jsonl"
    with Study(config, BASELINE, log, points=POINTS) as study:
        assert study.allowance_seconds is None
        study.train(ARMS, (0,))
        assert study.allowance_seconds == 0.02
    with Study(config, BASELINE, log, points=POINTS) as study:
        assert study.allowance_seconds == 0.02
        study.train(ARMS, (1,))
    assert [request.calibrate for request in trainer.seen] == [True, False, False, False, False]
    assert [request.allowance_seconds for request in trainer.seen[1:]] == [0.02] * 4


def test_other_units_are_not_calibrated(config: RunConfig, trainer: FormulaTrainer) -> None:
    train(config, None)
    assert not any(request.calibrate for request in trainer.seen)
    assert {request.allowance_seconds for request in trainer.seen} == {None}


def test_the_line_display_prints_each_training_once(config: RunConfig, trainer: FormulaTrainer) -> None:
    stream = io.StringIO()
    with StudyLines(stream) as display:
        train(config, None, (*ARMS, replace(ARMS[0], learning_rate_factor=2.0)), seeds=(0,), observe=display.observe)
    lines = stream.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "1/3  plain (seed 0)",
        "2/3  squared (seed 0)",
        "3/3  plain (seed 0, learning rate × 2)",
    ]
    assert "bits/byte on test" in lines[0]
    assert "left" in lines[0]
    assert "left" not in lines[2]


def test_the_live_display_shows_the_progress(config: RunConfig, trainer: FormulaTrainer) -> None:
    display = StudyPanel(io.StringIO())
    display.tell("starting the workers")
    console = Console(file=io.StringIO(), width=100)
    console.print(display.panel())
    train(config, None, observe=display.observe)
    console.print(display.panel())
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "starting the workers" in shown
    assert "4 of 4 trainings" in shown
    assert "squared (seed 1): " in shown
