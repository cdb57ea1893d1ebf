"""The training loop takes steps until a point of the budget is reached. It reads the clock after each chunk of steps.

While the device runs a step, the host makes and sends the next batch. Preparing one batch ahead is enough, because
making a batch takes a small part of a step's time (benchmarks/input_wait.py). Every trial measures whether this holds.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np

from ...models.training_batch import count_tokens
from ..config import TrialConfig
from ..protocol import Progress
from .budget_meter import Meter
from .phase_clock import PhaseClock
from .steps.train_state import TrainState
from .steps.train_step import StepFunctions

__all__ = ["Batches", "LoopOptions", "NonFiniteLoss", "TrainingLoop"]

CHUNK_SECONDS = 0.2
"""Time between two readings of the clock: short compared with any budget, long compared with a dispatch."""

CHUNKS_IN_STEPS = 100
"""Number of chunks for a budget in steps, which needs no clock."""

CURVE_POINTS = 200
"""Largest number of points of a learning curve. One point per chunk of a training of hours would take megabytes."""


class NonFiniteLoss(Exception):
    """A training or validation loss became infinite or not a number."""


class Batches(Protocol):
    """Batches of a training; each depends on the step alone."""

    def batch_at(self, step: int) -> Any:
        """Return the batch of a step, counted from 0."""
        ...

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the text after `step` steps."""
        ...


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Options of the loop that only a long training needs.

    Attributes:
        rate: factor of the learning rate, as a function of the share of the budget; None: always 1.
        longest_chunk: largest number of steps between two reports; None: any number.
        stop: function that returns whether to end a chunk after the current step, so that the state can be saved.
    """

    rate: Callable[[float], float] | None = None
    longest_chunk: int | None = None
    stop: Callable[[], bool] = lambda: False


class TrainingLoop:
    """Trains a state step by step, and measures how much of the budget is spent.

    Attributes:
        state: state after the last step.
        steps: number of steps so far.
        tokens: number of tokens in these steps, without padding.
        loss: mean training loss of the last chunk, in nats per token; None before the first chunk.
        curve: points (spent, steps, loss) of the learning curve.
        waited_seconds: training time, by the trial's clock, in which steps waited for batches; on an accelerator an
            upper bound.
    """

    def __init__(
        self,
        functions: StepFunctions,
        state: TrainState,
        batches: Batches,
        config: TrialConfig,
        clock: PhaseClock,
        meter: Meter,
        report: Callable[[Progress], None],
        options: LoopOptions | None = None,
    ):
        self.functions = functions
        self.state = state
        self.batches = batches
        self.config = config
        self.clock = clock
        self.meter = meter
        self.report = report
        self.options = options or LoopOptions()
        self.steps = self.tokens = 0
        self.loss: float | None = None
        self.curve: list[tuple[float, int, float]] = []
        self.waited_seconds = 0.0
        self._next_batch: tuple[int, Any, int] | None = None  # step, arrays, tokens
        self._step_seconds: list[float] = []
        self._last_chunk = 0
        self._step_charge = 0.0

    @property
    def spent(self) -> float:
        """Budget used so far, in the trial's unit."""
        return self.meter.spent

    @property
    def step_ms(self) -> float | None:
        """Median over the chunks of the milliseconds per step; None before the first chunk."""
        return 1000 * statistics.median(self._step_seconds) if self._step_seconds else None

    @property
    def input_wait_share(self) -> float | None:
        """Share of training time spent waiting for batches; None before the first step."""
        seconds = self.clock.seconds.get("train", 0.0)
        return min(self.waited_seconds / seconds, 1.0) if seconds > 0 else None

    def train_until(self, point: float) -> None:
        """Train until `point` of the budget, in the trial's unit, is spent.

        Raises:
            NonFiniteLoss: the loss is infinite or not a number.
        """
        while self.spent < point:
            self._chunk(self._chunk_steps(point))
            self.report(Progress("train", self.spent, self.config.budget, self.loss))

    def _chunk_steps(self, point: float) -> int:
        left = point - self.spent
        if self.config.unit == "steps":  # chunks do not depend on a clock, so the learning curve is reproducible
            steps = min(math.ceil(left), max(1, self.config.budget_steps // CHUNKS_IN_STEPS))
            return steps if self.options.longest_chunk is None else min(steps, self.options.longest_chunk)
        seconds = max(self._step_seconds[-1] if self._step_seconds else CHUNK_SECONDS, 1e-6)
        # A coarse clock may measure 0 s for the first step, so the number of steps grows at most about four times.
        steps = min(max(1, round(CHUNK_SECONDS / seconds)), 1 + 4 * self._last_chunk)
        return min(steps, math.ceil(left / (self._step_charge if self._step_charge > 0 else seconds)))

    def _chunk(self, steps: int) -> None:
        before = self.clock.seconds.get("train", 0.0)
        with self.clock.phase("train"):
            losses: list[jax.Array] = []
            while len(losses) < steps and not (losses and self.options.stop()):
                batch, tokens = self._take_batch()
                if self.options.rate is not None:
                    self.state = replace(self.state, rate=np.float32(self.options.rate(self._share)))
                self.state, result = self.functions.step(self.state, batch)
                self.steps, self.tokens = self.steps + 1, self.tokens + tokens
                losses.append(result.token_losses)
                self._prepare_batch(result.gradient_norm)
            jax.block_until_ready(self.state)  # the losses of a step may be ready before its end
            mean = float(np.mean([np.asarray(loss, np.float64).mean() for loss in losses]))
        steps = self._last_chunk = len(losses)
        seconds = self.clock.seconds["train"] - before
        self._step_seconds.append(seconds / steps)
        with self.clock.phase("timing"):  # the meter may take steps of the baseline
            self.meter.charge(steps, seconds)
        self._step_charge = self.spent / self.steps
        if not math.isfinite(mean):
            raise NonFiniteLoss(f"the training loss became infinite or not a number within {self.steps} steps")
        self.loss = mean
        self._extend_curve((self.spent, self.steps, mean))

    def _extend_curve(self, point: tuple[float, int, float]) -> None:
        """Add a point to the curve. In a long training, replace the last point if it is too near to the one before."""
        near = self.config.budget / CURVE_POINTS
        if len(self.curve) > 1 and self.curve[-1][0] - self.curve[-2][0] < near:
            self.curve.pop()
        self.curve.append(point)

    @property
    def _share(self) -> float:
        """Share of the budget used before the next step. A clock is read only between chunks."""
        return (self.steps if self.config.unit == "steps" else self.spent) / self.config.budget

    def _take_batch(self) -> tuple[Any, int]:
        """Return the next step's batch and its number of tokens. Except before the first step, it is already made."""
        if self._next_batch is None or self._next_batch[0] != self.steps:
            self._prepare_batch()
        assert self._next_batch is not None
        return self._next_batch[1:]

    def _prepare_batch(self, running: Any = None) -> None:
        """Make the batch of the next step while a step runs, and measure how long training may have waited for it.

        If the step ends first, training waited for at most the whole time of making the batch. Otherwise an accelerator
        did not wait. A CPU did not work on the step during the CPU time of this thread.
        """
        start, thread_start = self.clock.clock(), time.thread_time()
        batch = self.batches.batch_at(self.steps)
        self._next_batch = self.steps, self.functions.put(batch), count_tokens(batch)
        if running is None or running.is_ready():
            self.waited_seconds += self.clock.clock() - start
        elif not self.functions.overlaps:
            self.waited_seconds += time.thread_time() - thread_start
