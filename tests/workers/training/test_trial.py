"""Trials by the real trainer: every outcome, the times charged, and exact repetition."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.hurdles import hurdle_positions
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, CONSTANTS, MODEL, TRIAL, numbers, tiny_dataset
from primer_search.workers.config import OptimizerConfig, TrialConfig
from primer_search.workers.position_buckets import bucket_starts
from primer_search.workers.protocol import OUTCOME_ADVICE, Evaluation, HurdleThreshold, Progress, TrialRequest
from primer_search.workers.training.steps.train_state import Average
from primer_search.workers.training.trial import CandidateTrainer
from primer_search.workers.training.trial_probes import BatchFault

Train = Callable[..., Evaluation]


def program(text: str) -> DNA:
    return assemble({"main": text}, CONSTANTS, (8, 16))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def trainer(
    dataset: Path, trial: TrialConfig = TRIAL, optimizer: OptimizerConfig = CONFIG.optimizer
) -> CandidateTrainer:
    return CandidateTrainer(MODEL, trial, optimizer, str(dataset))


def run(
    trainer: CandidateTrainer,
    dna: DNA = BASELINE,
    seed: int = 5,
    thresholds: tuple[float | None, ...] = (),
    reports: list[Progress] | None = None,
) -> Evaluation:
    positions = hurdle_positions(trainer.trial.budget, 2)
    hurdles = tuple(HurdleThreshold(at, loss) for at, loss in zip(positions, thresholds, strict=False))
    request = TrialRequest(0, 0, dna_to_json(dna), seed, hurdles)
    evaluation = trainer.run(request, (reports if reports is not None else []).append)
    check_sound(evaluation)
    return evaluation


def check_sound(evaluation: Evaluation) -> None:
    """Check every evaluation: a known outcome, no NaN, and a message unless it succeeded."""
    json.dumps(evaluation.to_dict(), allow_nan=False)
    assert evaluation.kind in OUTCOME_ADVICE
    assert bool(evaluation.message) == (evaluation.outcome != "ok")
    assert (evaluation.loss_nats is None) == (evaluation.outcome != "ok")
    parts = (
        evaluation.train_seconds,
        evaluation.compile_seconds,
        evaluation.evaluate_seconds,
        evaluation.probe_seconds,
        evaluation.timing_seconds,
        evaluation.waiting_seconds,
    )
    assert all(part >= 0 for part in parts)
    assert evaluation.wall_seconds > 0
    assert evaluation.device.startswith("cpu")


@pytest.fixture(scope="module")
def trained(dataset: Path) -> tuple[Evaluation, list[Progress]]:
    reports: list[Progress] = []
    return run(trainer(dataset), thresholds=(None, None), reports=reports), reports


def test_a_full_trial_reports_every_figure(trained: tuple[Evaluation, list[Progress]]) -> None:
    evaluation, _ = trained
    assert evaluation.outcome == "ok"
    assert evaluation.loss_nats is not None and evaluation.loss_nats < math.log(MODEL.vocabulary) + 1
    assert len(evaluation.hurdle_losses) == 2
    assert evaluation.steps == TRIAL.budget_steps
    assert evaluation.tokens == TRIAL.budget_steps * TRIAL.batch * MODEL.length
    assert 0 < evaluation.epochs < 1
    assert evaluation.block_parameters == 64
    assert evaluation.parameters == 64 + 300 * 8 + 2 * 8
    assert evaluation.flops_per_token and evaluation.flops_per_token >= 2 * 64
    assert evaluation.peak_memory_bytes and evaluation.peak_memory_bytes > 2**20
    assert evaluation.step_ms and evaluation.step_ms > 0
    assert evaluation.input_wait_share is not None and 0 < evaluation.input_wait_share < 1


def test_an_evaluation_without_the_input_wait_opens(trained: tuple[Evaluation, list[Progress]]) -> None:
    older = trained[0].to_dict()
    del older["input_wait_share"]
    assert Evaluation.from_dict(older) == replace(trained[0], input_wait_share=None)


def test_training_lowers_the_loss(trained: tuple[Evaluation, list[Progress]]) -> None:
    evaluation, _ = trained
    assert evaluation.loss_nats is not None and evaluation.loss_nats < evaluation.hurdle_losses[0]
    assert min(loss for _, _, loss in evaluation.curve[1:]) < evaluation.curve[0][2]  # single batches are noisy


def test_the_curve_of_a_trial_rises_and_stops_at_its_hurdles(trained: tuple[Evaluation, list[Progress]]) -> None:
    evaluation, _ = trained
    spent, steps, _ = zip(*evaluation.curve, strict=True)
    assert list(steps) == sorted(set(steps))
    assert list(spent) == [float(step) for step in steps]
    assert {math.ceil(at) for at in hurdle_positions(12, 2)} <= set(steps)


def test_progress_goes_through_the_phases_in_order(trained: tuple[Evaluation, list[Progress]]) -> None:
    _, reports = trained
    phases = [progress.phase for progress in reports]
    assert list(dict.fromkeys(phases)) == ["compile", "probe", "train", "evaluate", "recheck"]
    assert phases.count("evaluate") == 3
    assert all(progress.budget == 12.0 for progress in reports)


def test_compilation_and_evaluation_are_not_charged_to_training(trained: tuple[Evaluation, list[Progress]]) -> None:
    evaluation, _ = trained
    # Compiling takes a thousand times as long as these 12 steps.
    assert evaluation.train_seconds < 0.5 * evaluation.compile_seconds
    parts = (
        evaluation.train_seconds + evaluation.compile_seconds + evaluation.evaluate_seconds + evaluation.probe_seconds
    )
    assert parts <= evaluation.wall_seconds


def test_the_parts_of_a_priced_trial_add_up_to_its_wall_clock(dataset: Path) -> None:
    trial = replace(TRIAL, price=True, budget_steps=60)
    timed = CandidateTrainer(MODEL, trial, CONFIG.optimizer, str(dataset), dna_to_json(BASELINE))
    first, second = requested(timed), requested(timed)
    for evaluation in (first, second):
        parts = (
            evaluation.train_seconds + evaluation.compile_seconds + evaluation.evaluate_seconds
            + evaluation.probe_seconds + evaluation.timing_seconds + evaluation.waiting_seconds
        )  # fmt: skip
        assert parts > 0.9 * evaluation.wall_seconds
    assert min(first.timing_seconds, second.timing_seconds) > 0.0
    assert first.compile_seconds > second.compile_seconds, "the first trial of a worker compiles the baseline's step"


def test_an_evaluation_without_timing_and_waiting_opens(trained: tuple[Evaluation, list[Progress]]) -> None:
    older = trained[0].to_dict()
    del older["timing_seconds"], older["waiting_seconds"]
    assert Evaluation.from_dict(older) == replace(trained[0], timing_seconds=0.0, waiting_seconds=0.0)


def test_bits_per_byte_are_the_loss_in_other_units(dataset: Path, trained: tuple[Evaluation, list[Progress]]) -> None:
    evaluation, _ = trained
    split = json.loads((dataset / "manifest.json").read_text())["splits"]["validation"]
    assert evaluation.loss_nats is not None
    expected = evaluation.loss_nats * split["tokens"] / split["bytes"] / math.log(2)
    assert evaluation.bits_per_byte == pytest.approx(expected)


def test_a_trial_repeats_to_the_last_bit_in_one_process_and_in_another(
    dataset: Path, trained: tuple[Evaluation, list[Progress]]
) -> None:
    first = numbers(trained[0])
    assert numbers(run(trainer(dataset), thresholds=(None, None))) == first
    script = (
        "import json; from pathlib import Path; from primer_search.tests.workers.training import test_trial as t;"
        f"e = t.run(t.trainer(Path({str(dataset)!r})), thresholds=(None, None)); print(json.dumps(t.numbers(e)))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(elsewhere.stdout.splitlines()[-1]) == first


def test_another_seed_gives_another_loss(dataset: Path, trained: tuple[Evaluation, list[Progress]]) -> None:
    assert run(trainer(dataset), seed=6).loss_nats != trained[0].loss_nats


def test_a_worker_that_has_trained_others_gives_the_same_result(
    dataset: Path, trained: tuple[Evaluation, list[Progress]]
) -> None:
    worker = trainer(dataset)
    run(worker, program("leak = RED_MEAN h0\nbad = MAT_MUL h0 leak"))  # refused
    run(worker, seed=9)
    assert numbers(run(worker, thresholds=(None, None))) == numbers(trained[0])


def test_a_trial_stops_at_a_hurdle_it_cannot_pass(dataset: Path, trained: tuple[Evaluation, list[Progress]]) -> None:
    losses = trained[0].hurdle_losses
    # A loss that only equals the median is not better than it.
    evaluation = run(trainer(dataset), thresholds=(None, losses[1]))
    assert evaluation.outcome == "stopped_at_hurdle"
    assert evaluation.hurdle_losses == losses
    assert evaluation.steps == math.ceil(hurdle_positions(12, 2)[1])
    assert "hurdle 2" in evaluation.message


def test_a_trial_that_is_better_than_every_threshold_continues(
    dataset: Path, trained: tuple[Evaluation, list[Progress]]
) -> None:
    losses = trained[0].hurdle_losses
    evaluation = run(trainer(dataset), thresholds=(losses[0] + 1e-9, losses[1] + 1e-9))
    assert numbers(evaluation) == numbers(trained[0])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bad = MAT_MUL h0 h0", "kinds"),
        ("scores = T_MAT_MUL h0 h0", "kinds"),
        ("scores = T_MAT_MUL h0 h0\nscaled = SCALE scores\noutput = MAT_MUL scaled h0", "length_dependent"),
        ("scores = T_MAT_MUL h0 h0\noutput = MAT_MUL scores h0", "causality"),
        (
            "scores = T_MAT_MUL h0 h0\ntotal = RED_SUM scores\nbent = TANH h0\na = MULTIPLY bent total\nb = ADD a h0",
            "causality",
        ),
        ("large = C_MUL h0 constant=hundred\noutput = EXP large", "finiteness"),
    ],
)
def test_a_program_that_cannot_train_is_rejected_before_training(dataset: Path, text: str, why: str) -> None:
    evaluation = run(trainer(dataset), program(text))
    assert evaluation.outcome == f"rejected:{why}"
    assert evaluation.steps == 0 and evaluation.curve == () and evaluation.bits_per_byte is None
    assert evaluation.train_seconds == 0.0


def test_a_loss_that_blows_up_in_training_is_non_finite(dataset: Path) -> None:
    blows_up = program(
        "mixed = CONV_1X1 h0 width=8\nsmall = C_MUL mixed constant=third\none = EXP small\noutput = EXP one"
    )
    wild = OptimizerConfig(learning_rate=10.0, warmup_steps=1, gradient_clip=0.0)
    evaluation = run(trainer(dataset, optimizer=wild), blows_up)
    assert evaluation.outcome == "non_finite"
    assert 0 < evaluation.steps <= 12
    assert evaluation.loss_nats is None


@pytest.mark.parametrize("unit", ["cpu_seconds", "wall_seconds"])
def test_a_budget_in_seconds_ends_when_it_is_spent(dataset: Path, unit: str) -> None:
    trial = replace(TRIAL, unit=unit, budget_seconds=0.7)  # type: ignore[arg-type]
    evaluation = run(trainer(dataset, trial), thresholds=(None, None))
    assert evaluation.outcome == "ok"
    assert 0.7 <= evaluation.train_seconds < 1.2
    assert evaluation.curve[-1][0] == pytest.approx(evaluation.train_seconds)
    assert evaluation.steps > 12
    assert len(evaluation.hurdle_losses) == 2


def requested(trainer: CandidateTrainer, dna: DNA = BASELINE, **request: Any) -> Evaluation:
    return trainer.run(TrialRequest(0, 0, dna_to_json(dna), 5, **request), lambda progress: None)


def test_a_suspiciously_good_result_is_probed_on_unseen_text_and_says_so(dataset: Path) -> None:
    plain, suspected = requested(trainer(dataset)), requested(trainer(dataset), suspicious_nats=100.0)
    assert plain.quarantine == ""
    assert "100.0000" in suspected.quarantine and "cleared" in suspected.quarantine
    assert suspected.outcome == "ok"
    assert suspected.loss_nats == plain.loss_nats
    assert plain.moved_logits == suspected.moved_logits == 0.0


def test_a_model_that_leaks_once_trained_gets_no_loss(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*_: Any) -> float:
        raise BatchFault("an example's logit moved by 1 with the other examples of its batch")

    monkeypatch.setattr("primer_search.workers.training.trial.probe_trained_model", caught)
    evaluation = requested(trainer(dataset))
    assert (evaluation.outcome, evaluation.loss_nats, evaluation.quarantine) == ("rejected:batch", None, "")


def test_the_test_split_is_scored_only_on_request(dataset: Path) -> None:
    plain, tested = requested(trainer(dataset)), requested(trainer(dataset), test=True)
    assert plain.test_loss_nats is None
    assert tested.loss_nats == plain.loss_nats
    assert tested.test_loss_nats is not None
    assert tested.test_loss_nats != tested.loss_nats
    assert tested.test_bits_per_byte is not None
    sizes = np.diff([*bucket_starts(MODEL.length), MODEL.length])
    assert np.average(tested.test_losses_by_position, weights=sizes) == pytest.approx(tested.test_loss_nats, rel=1e-6)


def test_learning_rate_and_unit_can_be_changed_for_one_trial(dataset: Path) -> None:
    plain = requested(trainer(dataset))
    assert requested(trainer(dataset), learning_rate_factor=3.0).loss_nats != plain.loss_nats
    wider = requested(trainer(dataset), unit=2)
    assert plain.parameters is not None and wider.parameters is not None
    assert wider.parameters > 1.5 * plain.parameters


def test_the_average_of_the_parameters_is_evaluated(dataset: Path) -> None:
    averaging = replace(CONFIG.optimizer, averaging=8.0)
    averaged, last = requested(trainer(dataset, optimizer=averaging)), requested(trainer(dataset))
    assert averaged.curve == last.curve  # training itself is the same
    assert averaged.loss_nats != last.loss_nats


def test_the_average_weighs_late_steps_more() -> None:
    """The average of 1, 2, ..., n by the weights of the recursion is (exponent + 1) / (exponent + 2) n."""
    average = Average.start({"w": np.zeros(1)})
    for step in range(1, 1001):
        average = average.updated({"w": np.full(1, float(step))}, 8.0)
        assert average is not None
    assert float(average.parameters["w"][0]) == pytest.approx(900, rel=0.01)


def test_reference_seconds_charge_the_baseline_its_allowance(dataset: Path) -> None:
    trial = replace(TRIAL, unit="reference_seconds", budget_seconds=2.0)
    timed = CandidateTrainer(MODEL, trial, CONFIG.optimizer, str(dataset), dna_to_json(BASELINE))
    calibration = requested(timed, calibrate=True)
    assert calibration.step_ms is not None and calibration.step_ms > 0
    evaluation = requested(timed, allowance_seconds=0.02)
    assert (
        evaluation.relative_step is not None and evaluation.relative_step > 0
    )  # its size is benchmarks/budget_units.py's
    assert evaluation.steps * evaluation.relative_step * 0.02 == pytest.approx(evaluation.spent, rel=0.05)
    assert 2.0 <= evaluation.spent < 3.0
