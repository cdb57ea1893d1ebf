"""The training loop with a clock that the test sets: where it stops, what it charges, what it records."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from primer_search.workers.config import TrialConfig
from primer_search.workers.data.batches import TrainBatches
from primer_search.workers.protocol import Progress
from primer_search.workers.training.budget_meter import ClockMeter, StepMeter
from primer_search.workers.training.phase_clock import PhaseClock, clock_function
from primer_search.workers.training.training_loop import NonFiniteLoss, TrainingLoop


class Losses:
    """Token losses, which a device has computed or not."""

    def __init__(self, values: np.ndarray, ready: bool):
        self.values = values
        self.ready = ready

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype)

    def is_ready(self) -> bool:
        return self.ready


@dataclass
class Result:
    token_losses: Losses

    @property
    def gradient_norm(self) -> Losses:
        """Also ready when the step has ended."""
        return self.token_losses


class Steps:
    """A training step with a given time and given losses, on a device other than the host.

    `put_seconds` is the time to send a batch; `ready` is whether the device has finished its step by then.
    """

    overlaps = True

    def __init__(self, seconds: list[float] | float, losses: dict[int, float] | None = None):
        self.put_seconds = 0.0
        self.ready = False
        self.seen: list[np.ndarray] = []
        self.now = 0.0
        self.taken = 0
        self.seconds = seconds
        self.losses = losses or {}

    def clock(self) -> float:
        return self.now

    def put(self, tokens: np.ndarray) -> np.ndarray:
        self.now += self.put_seconds
        return tokens

    def step(self, state: Any, tokens: np.ndarray) -> tuple[Any, Result]:
        self.seen.append(tokens)
        self.now += (
            self.seconds[min(self.taken, len(self.seconds) - 1)] if isinstance(self.seconds, list) else self.seconds
        )
        loss = self.losses.get(self.taken, 1.0)
        self.taken += 1
        return state, Result(Losses(np.full((2, 4), loss), self.ready))


def loop_over(steps: Steps, **trial: Any) -> tuple[TrainingLoop, list[Progress]]:
    reports: list[Progress] = []
    config = TrialConfig(batch=2, **trial)
    batches = TrainBatches(np.arange(100, dtype=np.uint16), 2, 4, seed=0)
    clock = PhaseClock(steps.clock)
    meter = StepMeter() if config.unit == "steps" else ClockMeter()
    return TrainingLoop(steps, None, batches, config, clock, meter, reports.append), reports  # type: ignore[arg-type]


def test_a_budget_in_steps_is_met_exactly_and_a_hurdle_between_two_steps_rounds_up() -> None:
    loop, _ = loop_over(Steps(0.001), unit="steps", budget_steps=20)
    loop.train_until(20 / 7)
    assert loop.steps == 3
    loop.train_until(20)
    loop.train_until(20)
    assert loop.steps == 20 == loop.spent
    assert loop.tokens == 20 * 2 * 4


@pytest.mark.parametrize("seconds", [1e-4, 0.003, 0.05, 0.7])
def test_a_budget_in_seconds_is_overrun_by_less_than_a_chunk(seconds: float) -> None:
    loop, _ = loop_over(Steps(seconds), unit="cpu_seconds", budget_seconds=5.0)
    loop.train_until(5.0)
    assert 5.0 <= loop.spent < 5.0 + max(seconds, 0.2)
    assert loop.spent == pytest.approx(loop.steps * seconds)


def test_a_clock_too_coarse_for_the_first_steps_does_not_exhaust_the_budget_at_once() -> None:
    loop, _ = loop_over(Steps([0.0, 0.0, 0.0, 0.02]), unit="cpu_seconds", budget_seconds=2.0)
    loop.train_until(2.0)
    assert loop.spent < 2.5


def test_time_between_chunks_is_not_charged() -> None:
    steps = Steps(0.01)
    loop, _ = loop_over(steps, unit="wall_seconds", budget_seconds=1.0)
    loop.train_until(0.5)
    spent = loop.spent
    with loop.clock.phase("evaluate"):
        steps.now += 100.0
    steps.now += 100.0
    assert loop.spent == spent
    loop.train_until(1.0)
    assert 1.0 <= loop.spent < 1.25
    assert loop.clock.seconds["evaluate"] == pytest.approx(100.0)


def test_the_curve_rises_in_budget_and_steps_and_ends_at_the_last_step() -> None:
    loop, reports = loop_over(
        Steps(0.03, {k: 5.0 - 0.01 * k for k in range(200)}), unit="wall_seconds", budget_seconds=3.0
    )
    loop.train_until(3.0)
    spent, steps, losses = zip(*loop.curve, strict=True)
    assert list(spent) == sorted(set(spent))
    assert list(steps) == sorted(set(steps))
    assert (spent[-1], steps[-1], losses[-1]) == (loop.spent, loop.steps, loop.loss)
    assert losses[0] == pytest.approx(5.0)
    assert [progress.spent for progress in reports] == list(spent)


def test_the_curve_of_a_long_training_has_few_points_and_still_ends_at_the_last_step() -> None:
    steps = {k: 5.0 - 0.0001 * k for k in range(40_000)}
    loop, reports = loop_over(Steps(0.1, steps), unit="wall_seconds", budget_seconds=2000.0)
    loop.train_until(2000.0)
    assert len(reports) > 5000 and 150 < len(loop.curve) <= 205
    assert loop.curve[-1] == (loop.spent, loop.steps, loop.loss)
    assert all(after[0] > before[0] for before, after in pairwise(loop.curve))


def test_the_step_time_is_a_median_that_ignores_one_slow_chunk() -> None:
    loop, _ = loop_over(Steps([0.5] + [0.01] * 5000), unit="wall_seconds", budget_seconds=4.0)
    loop.train_until(4.0)
    assert loop.step_ms == pytest.approx(10.0)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_a_number_ends_training_and_is_left_out_of_the_curve(loss: float) -> None:
    loop, _ = loop_over(Steps(0.01, {30: loss}), unit="steps", budget_steps=100)
    with pytest.raises(NonFiniteLoss, match="infinite or not a number within"):
        loop.train_until(100)
    assert 31 <= loop.steps < 100
    assert all(np.isfinite(point[2]) for point in loop.curve)


def test_a_phase_that_raises_is_still_charged() -> None:
    steps = Steps(0.0)
    clock = PhaseClock(steps.clock)
    with pytest.raises(RuntimeError), clock.phase("compile"):
        steps.now += 3.0
        raise RuntimeError
    assert clock.seconds == {"compile": 3.0}


def test_the_processor_clock_does_not_run_while_the_process_sleeps() -> None:
    import time

    processor, wall = clock_function("cpu_seconds"), clock_function("wall_seconds")
    before = processor(), wall()
    time.sleep(0.1)
    assert wall() - before[1] >= 0.1
    assert processor() - before[0] < 0.05


def test_a_budget_in_steps_gives_the_same_curve_by_every_clock() -> None:
    losses = {k: 5.0 - 0.01 * k for k in range(1000)}
    curves = []
    for seconds in (1e-5, 0.5):
        loop, _ = loop_over(Steps(seconds, losses), unit="steps", budget_steps=730)
        loop.train_until(100.5)
        loop.train_until(730)
        curves.append(loop.curve)
    assert curves[0] == curves[1]
    assert 100 <= len(curves[0]) <= 110


def test_every_step_sees_the_batch_of_its_number_also_after_a_pause() -> None:
    whole, parts = Steps(0.001), Steps(0.001)
    batches = TrainBatches(np.arange(100, dtype=np.uint16), 2, 4, seed=0)
    loop, _ = loop_over(whole, unit="steps", budget_steps=40)
    loop.train_until(40)
    first, _ = loop_over(parts, unit="steps", budget_steps=40)
    first.train_until(13)
    second, _ = loop_over(parts, unit="steps", budget_steps=40)
    second.steps = 13
    second.train_until(27)
    assert len(whole.seen) == len(parts.seen) == 40
    for step in range(40):
        np.testing.assert_array_equal(whole.seen[step], batches.batch_at(step))
        np.testing.assert_array_equal(parts.seen[step], batches.batch_at(step))


def test_an_idle_device_waits_for_its_batch_and_a_busy_one_does_not() -> None:
    busy, dry = Steps(0.03), Steps(0.03)
    dry.ready = True
    shares = []
    for steps in (busy, dry):
        steps.put_seconds = 0.01
        loop, _ = loop_over(steps, unit="steps", budget_steps=400)
        assert loop.input_wait_share is None
        loop.train_until(400)
        shares.append(loop.input_wait_share)
    assert shares[0] == pytest.approx(0.01 / (400 * 0.04), rel=0.01)  # only the first batch is waited for
    assert shares[1] == pytest.approx(0.25, rel=0.01)


def test_a_processor_waits_as_long_as_it_works_on_batches() -> None:
    """While a step runs in other threads, only the time of this thread counts for the batch."""
    steps = Steps(1e-9)
    steps.overlaps = False
    loop, _ = loop_over(steps, unit="steps", budget_steps=50)
    loop.train_until(50)
    assert 0 < loop.waited_seconds < 1
