"""An executor whose trials fail by chance, at given rates, without processes and without waiting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from primer_search.workers.protocol import Evaluation, TrialRequest, WorkerStatus

__all__ = ["RATES", "FaultyExecutor"]

RATES = {
    "crash": 0.1,
    "hang": 0.08,
    "slow": 0.2,
    "nan": 0.08,
    "memory": 0.08,
    "lost message": 0.08,
    "doubled message": 0.1,
}
"""Probability of each fault of a trial."""

_OUTCOMES = {
    "crash": Evaluation("worker_lost", "the worker died"),
    "hang": Evaluation("timeout", "exceeded its wall-clock limit"),
    "nan": Evaluation("non_finite", loss_nats=math.nan, hurdle_losses=(5.0, math.inf)),
    "memory": Evaluation("out_of_memory", "exceeded its memory"),
    "lost message": Evaluation("worker_lost", "its result did not arrive"),
}


@dataclass
class FaultyExecutor:
    """Workers that fail by chance.

    Attributes:
        evaluate: result of a trial without a fault.
        slots: number of workers.
        seed: random seed of the faults.
        rates: probability of each fault.
        told: evaluations that were returned, by trial.
        drawn: faults so far.
    """

    evaluate: Callable[[TrialRequest], Evaluation]
    slots: int = 3
    seed: int = 0
    rates: dict[str, float] = field(default_factory=lambda: dict(RATES))
    told: dict[int, Evaluation] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._running: list[tuple[int, TrialRequest, Evaluation]] = []
        self._again: list[tuple[TrialRequest, Evaluation]] = []
        self._now = 0

    @property
    def free(self) -> int:
        return self.slots - len(self._running)

    def start(self) -> None:
        pass

    def submit(self, request: TrialRequest) -> None:
        assert self.free > 0
        fault = self._fault()
        evaluation = _OUTCOMES.get(fault) or self.evaluate(request)
        waits = int(self._rng.integers(1, 4)) + (10 if fault in ("slow", "hang", "lost message") else 0)
        self._running.append((self._now + waits, request, evaluation))
        if fault == "doubled message":
            self._again.append((request, evaluation))

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        self._now += 1
        ended = [trial for trial in self._running if trial[0] <= self._now]
        self._running = [trial for trial in self._running if trial[0] > self._now]
        arrived = [(request, evaluation) for _, request, evaluation in ended]
        late = [pair for pair in self._again if pair[0].trial_id in self.told]
        self._again = [pair for pair in self._again if pair not in late]
        self.told.update((request.trial_id, evaluation) for request, evaluation in arrived)
        return [*late, *arrived]

    def status(self) -> list[WorkerStatus]:
        return []

    def cancel(self) -> list[TrialRequest]:
        dropped, self._running = [request for _, request, _ in self._running], []
        return dropped

    def close(self) -> None:
        self.cancel()

    def __enter__(self) -> FaultyExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fault(self) -> str:
        names = [*self.rates, "none"]
        chances = [*self.rates.values(), 1.0 - sum(self.rates.values())]
        self.drawn.append(str(self._rng.choice(names, p=chances)))
        return self.drawn[-1]
