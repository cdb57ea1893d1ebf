"""Queue of a study: its finished and waiting trainings, and their state for progress displays."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ...primitives import DNA
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation, WorkerStatus
from ..runs.lost_trials import LostTrials
from .study_log import StudyLog, json_hash

__all__ = ["ONE_REPEAT", "Arm", "StudyQueue", "StudyState", "Training", "format_devices", "losses_by_arm"]

ONE_REPEAT = "intervals need at least two repeats, because one does not show the noise."
"""Note to readers of a study's results."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A program and the settings that it is trained with.

    Attributes:
        name: label in tables; it is not part of the identity, so a renamed arm is not trained again.
        dna: program to train.
        learning_rate_factor: factor on the configured learning rate.
        unit: unit of width that replaces the configured one; None: the configured one.
    """

    name: str
    dna: DNA
    learning_rate_factor: float = 1.0
    unit: int | None = None

    @property
    def key(self) -> str:
        """Identity of the arm: a hash of everything except its name."""
        return json_hash(
            {"dna": dna_to_json(self.dna), "learning_rate_factor": self.learning_rate_factor, "unit": self.unit}
        )


@dataclass(frozen=True, slots=True)
class Training:
    """One finished training of an arm.

    Attributes:
        arm: arm that was trained.
        seed: random seed of the parameters and of the order of the text.
        evaluation: result; its `hurdle_losses` are the validation losses at the study's points.
    """

    arm: Arm
    seed: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class StudyState:
    """Snapshot of a running study, for progress displays.

    Attributes:
        done: number of finished trainings, including those read from the log.
        total: number of trainings.
        elapsed_seconds: time since this call started to train.
        seconds_left: estimated time left; None before the first training has ended.
        names: names of the arms; a worker's `candidate_id` is an index into them.
        workers: status of each worker.
        last: training that ended last; None before the first.
    """

    done: int
    total: int
    elapsed_seconds: float
    seconds_left: float | None
    names: tuple[str, ...]
    workers: tuple[WorkerStatus, ...]
    last: Training | None


class StudyQueue:
    """Trainings of some arms with some random seeds; arms with the same key are trained once.

    Args:
        arms: arms to train.
        seeds: random seeds to train each arm with.
        log: log with the finished trainings.
        retries: number of times that a training is repeated after it was lost with its worker.

    Attributes:
        waiting: trainings to start, in order.
        positions: index of the first arm with each key.
    """

    def __init__(self, arms: Sequence[Arm], seeds: Sequence[int], log: StudyLog, retries: int):
        self.arms = arms
        self.seeds = seeds
        self.log = log
        self.positions: dict[str, int] = {}
        for position, arm in enumerate(arms):
            self.positions.setdefault(arm.key, position)
        self._pairs = [(key, seed) for seed in dict.fromkeys(seeds) for key in self.positions]
        self.waiting = deque(
            (arms[self.positions[key]], seed) for key, seed in self._pairs if log.result(key, seed) is None
        )
        self._lost = LostTrials(retries)
        self._given_up: dict[tuple[str, int], Evaluation] = {}
        self._last: Training | None = None

    @property
    def total(self) -> int:
        """Number of trainings."""
        return len(self._pairs)

    @property
    def done(self) -> int:
        """Number of finished trainings."""
        return sum(self._evaluation(key, seed) is not None for key, seed in self._pairs)

    def finish(self, arm: Arm, seed: int, evaluation: Evaluation) -> None:
        """Log a result; put a training that was lost with its worker back at the front of the queue."""
        if self._lost.should_repeat((arm.key, seed), evaluation):
            self.waiting.appendleft((arm, seed))
            return
        if evaluation.kind in INFRASTRUCTURE_FAULTS:
            self._given_up[arm.key, seed] = evaluation
        else:
            self.log.add(arm.name, arm.key, seed, evaluation)
        self._last = Training(arm, seed, evaluation)

    def trainings(self) -> list[Training]:
        """Return the finished trainings of all arms, ordered by seed and then by arm."""
        found = ((arm, seed, self._evaluation(arm.key, seed)) for seed in self.seeds for arm in self.arms)
        return [Training(arm, seed, evaluation) for arm, seed, evaluation in found if evaluation is not None]

    def state(self, start: float, durations: Sequence[float], workers: Sequence[WorkerStatus]) -> StudyState:
        """Return a snapshot; `start` is by `time.monotonic`, `durations` are the seconds of trainings since."""
        names = tuple(arm.name for arm in self.arms)
        left = _seconds_left(durations, len(self.waiting), workers)
        return StudyState(self.done, self.total, time.monotonic() - start, left, names, tuple(workers), self._last)

    def _evaluation(self, key: str, seed: int) -> Evaluation | None:
        return self.log.result(key, seed) or self._given_up.get((key, seed))


def losses_by_arm(trainings: Sequence[Training]) -> dict[str, dict[int, float]]:
    """Return the test loss of the successful trainings (`Evaluation.test_score`) by name of the arm and random seed."""
    losses: dict[str, dict[int, float]] = {}
    for training in trainings:
        loss = training.evaluation.test_score
        if training.evaluation.outcome == "ok" and loss is not None:
            losses.setdefault(training.arm.name, {})[training.seed] = loss
    return losses


def format_devices(trainings: Sequence[Training]) -> str:
    """Return the names of the devices that the trainings ran on."""
    return ", ".join(sorted({one.evaluation.device for one in trainings if one.evaluation.device}))


def _seconds_left(durations: Sequence[float], waiting: int, workers: Sequence[WorkerStatus]) -> float | None:
    """Estimate the time left from the mean duration of a training and the time that running trainings have taken."""
    if not durations:
        return None
    mean = sum(durations) / len(durations)
    running = sum(max(mean - worker.wall_seconds, 0.0) for worker in workers if worker.trial_id is not None)
    return (waiting * mean + running) / max(len(workers), 1)
