"""A trainer that invents evaluations: learning curves drawn from recorded trainings.

The final loss is the true loss of the program plus the noise of the random seed. The learning curve is drawn from the
`NEAREST` recorded trainings with the nearest final losses, and shifted to end at this loss. A hurdle stops a trial
exactly as in real training. With a budget in steps, the price of the program determines the time of the trial. With a
budget in seconds, a slower program makes fewer steps, which costs `PRICE_SLOPE` nats per factor e.

Losses and step times are those of the recorded `laptop` model, whatever model is configured. So the differences between
programs are plausible, but the losses of a larger model are not predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...workers.config import TrialConfig
from ...workers.price_prior import log_price_at_hurdle, step_counts
from ...workers.protocol import Evaluation, HurdleThreshold, Progress, TrialRequest
from ..evolution.candidate import BASELINE_ID
from .recorded_trainings import RecordedTraining, Recording
from .true_programs import TrueProgram, TruePrograms

__all__ = ["SimulatedTrainer"]

NOISE_SD = 0.013
"""Standard deviation of a final loss between random seeds, in nats, measured on the recorded trainings."""

TIMING_SD = 0.03
"""Standard deviation of the log relative step time measured by a complete training. For a shorter training, the
variance is divided by its share of a complete one."""

SHORTEST_TIMING = 0.05
"""Smallest share in this variance: shorter trainings have the timing error of this share."""

COUNT_SD = 0.04
"""Standard deviation of the log price around its prediction from operation counts."""

NEAREST = 10
"""Number of recorded trainings from which the learning curve of a trial is drawn."""

CURVE_POINTS = 100
"""Points of the learning curve of a full training, as in a real training."""

BITS_PER_BYTE = 0.5447
"""Bits per byte of a loss of one nat per token, with the tokenizer of the recorded trainings."""

CALIBRATION_SECONDS = 3.0
"""Time of a measurement of the baseline's step."""

DEVICE = "simulated"


class SimulatedTrainer:
    """Returns the evaluations of trials without training.

    Args:
        trial: settings of trials.
        recording: recorded trainings.
        programs: true programs of the search.
        overhead_seconds: time that a trial takes in addition to training; None: as in the recorded trainings.
    """

    def __init__(
        self, trial: TrialConfig, recording: Recording, programs: TruePrograms, overhead_seconds: float | None = None
    ):
        self._trial = trial
        self._recording = recording
        self._programs = programs
        self._overhead_seconds = overhead_seconds

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        """Return the evaluation of a trial."""
        if request.calibrate:
            return Evaluation("ok", step_ms=self._recording.step_ms, wall_seconds=CALIBRATION_SECONDS, device=DEVICE)
        program = self._programs[request.candidate_id]
        rng = np.random.default_rng(request.seed)
        timed = self._trial.price or self._trial.unit == "reference_seconds"
        timing_noise = TIMING_SD * rng.normal()

        def relative_step(share: float) -> float | None:
            return (
                math.exp(program.log_price + timing_noise / math.sqrt(max(share, SHORTEST_TIMING))) if timed else None
            )

        counts: dict[str, Any] = _step_counts(self._recording, program.log_price, request.candidate_id)
        if program.fault is not None:
            message, reached = "a recorded training of such a child ended with this fault", program.fault.reached
            figures = self._figures(program, program.fault, reached) | counts
            return Evaluation(program.fault.outcome, message, relative_step=relative_step(reached), **figures)
        gain = program.gain if self._trial.unit == "steps" else program.time_gain
        final = self._recording.baseline_loss - gain + NOISE_SD * rng.normal()
        curve = self._moved_curve(final, rng)

        def log_price(share: float) -> float:
            return log_price_at_hurdle(request.price_prior, step_counts(*counts.values()), relative_step(share), share)

        outcome, message, reached, losses = _pass_hurdles(request.hurdles, self._trial.budget, curve, log_price)
        figures = self._figures(program, curve, reached) | counts
        if outcome == "ok":
            figures |= {"loss_nats": final, "bits_per_byte": BITS_PER_BYTE * final}
        at = [hurdle.at / self._trial.budget for hurdle in request.hurdles[: len(losses)]]
        return Evaluation(
            outcome,
            message,
            hurdle_losses=losses,
            hurdle_steps=tuple(round(figures["steps"] * share / reached) for share in at),
            curve=self._points(curve, reached, figures["steps"]),
            relative_step=relative_step(reached),
            **figures,
        )

    def _moved_curve(self, final: float, rng: np.random.Generator) -> RecordedTraining:
        """Return one of the recorded trainings with the nearest final losses, shifted to end at this final loss."""
        curves, place = self._recording.curves, int(np.searchsorted(self._recording.finals, final))
        first = min(max(place - NEAREST // 2, 0), len(curves) - NEAREST)
        drawn = curves[first + int(rng.integers(NEAREST))]
        return replace(drawn, losses=tuple(loss + final - drawn.losses[-1] for loss in drawn.losses))

    def _figures(self, program: TrueProgram, recorded: RecordedTraining, reached: float) -> dict[str, Any]:
        """Return the steps and times of a training that reaches a share of the budget."""
        recording, price = self._recording, math.exp(program.log_price)
        spent, step_seconds = reached * self._trial.budget, recording.step_ms * price / 1000.0
        in_steps = self._trial.unit == "steps"
        train = spent * step_seconds if in_steps else spent
        others = (recorded.compile_seconds, recorded.probe_seconds, recorded.evaluate_seconds)
        if self._overhead_seconds is not None:
            others = (self._overhead_seconds, 0.0, 0.0)
        return {
            "steps": round(spent if in_steps else spent / step_seconds),
            "spent": spent,
            "train_seconds": train,
            **dict(zip(("compile_seconds", "probe_seconds", "evaluate_seconds"), others, strict=True)),
            "wall_seconds": train + sum(others),
            "step_ms": 1000.0 * step_seconds,
            "device": DEVICE,
        }

    def _points(self, curve: RecordedTraining, reached: float, steps: int) -> tuple[tuple[float, int, float], ...]:
        shares = np.linspace(0.0, reached, 1 + max(1, round(CURVE_POINTS * reached)))[1:]
        losses = np.interp(shares, curve.shares, curve.losses)
        counts = np.round(shares / reached * steps).astype(int)
        return tuple(zip((shares * self._trial.budget).tolist(), counts.tolist(), losses.tolist(), strict=True))


def _step_counts(recording: Recording, log_price: float, candidate_id: int) -> dict[str, float]:
    """Return the operation counts of a program's step. They predict its price with an error drawn for each program."""
    error = 0.0 if candidate_id == BASELINE_ID else COUNT_SD * np.random.default_rng(candidate_id).normal()
    factor = math.exp(log_price + error)
    return {
        "step_flops": recording.step_flops * factor,
        "step_bytes": recording.step_bytes * factor,
        "step_transcendentals": recording.step_transcendentals * factor,
    }


def _pass_hurdles(
    hurdles: Sequence[HurdleThreshold], budget: float, curve: RecordedTraining, log_price: Callable[[float], float]
) -> tuple[str, str, float, tuple[float, ...]]:
    """Return the outcome, its message, the share of the budget reached, and the losses at the hurdles."""
    losses: list[float] = []
    for number, hurdle in enumerate(hurdles, 1):
        share = hurdle.at / budget
        losses.append(float(np.interp(share, curve.shares, curve.losses)))
        if hurdle.loss_nats is not None and (score := hurdle.score(losses, log_price(share))) >= hurdle.loss_nats:
            message = f"the score {score:.4f} at hurdle {number} is not below the limit {hurdle.loss_nats:.4f}"
            return "stopped_at_hurdle", message, share, tuple(losses)
    return "ok", "", 1.0, tuple(losses)
