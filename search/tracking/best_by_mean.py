"""The best candidate so far by the rule of `StoreReader.best_candidate_id`, kept while results arrive."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from ..evolution.candidate import BASELINE_ID

__all__ = ["BestByMean"]


class BestByMean:
    """Best candidate besides the baseline, without those that diverged in a training.

    >>> best = BestByMean()
    >>> best.record(1, "ok", 4.0); best.record(2, "ok", 3.0); best.record(2, "ok", 5.5)
    >>> best.id, best.loss_nats
    (1, 4.0)
    """

    def __init__(self) -> None:
        self.id: int | None = None
        self._losses: defaultdict[int, list[float]] = defaultdict(list)
        self._diverged: set[int] = set()

    @property
    def loss_nats(self) -> float | None:
        """Mean loss of the best candidate, in nats per token; None before the first."""
        return None if self.id is None else fmean(self._losses[self.id])

    @property
    def baseline_loss_nats(self) -> float | None:
        """Mean loss of the baseline; None before its first full training."""
        losses = self._losses.get(BASELINE_ID)
        return fmean(losses) if losses else None

    def record(self, candidate_id: int, outcome: str, loss_nats: float | None) -> None:
        """Add the result of a trial."""
        if outcome == "non_finite":
            self._diverged.add(candidate_id)
        elif outcome == "ok" and loss_nats is not None:
            self._losses[candidate_id].append(loss_nats)
        else:
            return
        if candidate_id == BASELINE_ID:
            return
        if self.id in (None, candidate_id):
            self._find()
        elif candidate_id not in self._diverged and self._key(candidate_id) < self._key(self.id):
            self.id = candidate_id

    def _find(self) -> None:
        eligible = self._losses.keys() - self._diverged - {BASELINE_ID}
        self.id = min(eligible, key=self._key, default=None)

    def _key(self, candidate_id: int) -> tuple[float, int]:
        return fmean(self._losses[candidate_id]), candidate_id
