"""The queue of a study: its arms, the trainings left and finished, and the state that progress displays show."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...primitives import DNA
from ...primitives.program_json import dna_to_json
from ...workers.protocol import (
    INFRASTRUCTURE_FAULTS,
    Evaluation,
    WorkerStatus,
)
from .study_log import StudyLog, json_hash

__all__ = ["Arm", "StudyQueue", "StudyState", "Training"]


@dataclass(frozen=True, slots=True)
class StudyState:
    """Where a study stands, for progress displays.

    Attributes:
        done, total: trainings, those taken from the record among them.
        elapsed_seconds: of this call.
        seconds_left: an estimate; None before a training has ended.
        names: of the arms; a worker's `candidate_id` is an index into them.
        workers: what each worker does.
        last: the training that ended last, None before the first.
    """

    done: int
    total: int
    elapsed_seconds: float
    seconds_left: float | None
    names: tuple[str, ...]
    workers: tuple[WorkerStatus, ...]
    last: Training | None


@dataclass(slots=True)
class StudyQueue:
    """What is to train: a queue, and what has come of it."""

    arms: Sequence[Arm]
    seeds: Sequence[int]
    record: StudyLog
    queue: deque[tuple[Arm, int]] = field(default_factory=deque)
    place: dict[str, int] = field(default_factory=dict)
    lost: Counter[tuple[str, int]] = field(default_factory=Counter)
    given_up: dict[tuple[str, int], Evaluation] = field(default_factory=dict)
    last: Training | None = None

    def __post_init__(self) -> None:
        for number, arm in enumerate(self.arms):
            self.place.setdefault(arm.key, number)
        distinct = [self.arms[number] for number in self.place.values()]
        pairs = ((arm, seed) for seed in dict.fromkeys(self.seeds) for arm in distinct)
        self.queue.extend((arm, seed) for arm, seed in pairs if self.record.result(arm.key, seed) is None)

    @property
    def total(self) -> int:
        return len(self.place) * len(dict.fromkeys(self.seeds))

    @property
    def done(self) -> int:
        finished = (self._evaluation(key, seed) is not None for key in self.place for seed in dict.fromkeys(self.seeds))
        return sum(finished)

    def finish(self, arm: Arm, seed: int, evaluation: Evaluation, retries: int) -> None:
        """Keep a result; one that says nothing of the arm is tried again, next."""
        if evaluation.kind not in INFRASTRUCTURE_FAULTS:
            self.record.add(arm.name, arm.key, seed, evaluation)
            self.last = Training(arm, seed, evaluation)
            return
        self.lost[arm.key, seed] += 1
        if self.lost[arm.key, seed] <= retries:
            self.queue.appendleft((arm, seed))
        else:
            self.given_up[arm.key, seed] = evaluation
            self.last = Training(arm, seed, evaluation)

    def trainings(self) -> list[Training]:
        found = ((arm, seed, self._evaluation(arm.key, seed)) for seed in self.seeds for arm in self.arms)
        return [Training(arm, seed, evaluation) for arm, seed, evaluation in found if evaluation is not None]

    def state(self, start: float, spent: Sequence[float], workers: Sequence[WorkerStatus]) -> StudyState:
        names = tuple(arm.name for arm in self.arms)
        left = _seconds_left(spent, len(self.queue), workers)
        return StudyState(self.done, self.total, time.monotonic() - start, left, names, tuple(workers), self.last)

    def _evaluation(self, key: str, seed: int) -> Evaluation | None:
        return self.record.result(key, seed) or self.given_up.get((key, seed))


def _seconds_left(spent: Sequence[float], waiting: int, workers: Sequence[WorkerStatus]) -> float | None:
    """From the mean wall clock of the trainings so far, and how far those in flight are."""
    if not spent:
        return None
    mean = sum(spent) / len(spent)
    flying = sum(max(mean - worker.wall_seconds, 0.0) for worker in workers if worker.trial_id is not None)
    return (waiting * mean + flying) / max(len(workers), 1)


@dataclass(frozen=True, slots=True)
class Arm:
    """A program under the settings it is trained with.

    Attributes:
        name: label in tables; not part of the identity, so a renamed arm is not retrained.
        dna: the program.
        learning_rate_factor: times the configured learning rate.
        unit: of relative width instead of the configured one; None keeps that.
    """

    name: str
    dna: DNA
    learning_rate_factor: float = 1.0
    unit: int | None = None

    @property
    def key(self) -> str:
        """Identity: a hash of everything but the name."""
        return json_hash(
            {"dna": dna_to_json(self.dna), "learning_rate_factor": self.learning_rate_factor, "unit": self.unit}
        )


@dataclass(frozen=True, slots=True)
class Training:
    """One finished training of an arm.

    Attributes:
        arm: what was trained.
        seed: of its parameters and of the order of its text.
        evaluation: what came of it; `hurdle_losses` are the validation losses at the study's points.
    """

    arm: Arm
    seed: int
    evaluation: Evaluation
