"""Totals of the leak checks: programs that see the future, and results that are too good to be true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ....workers.protocol import Evaluation

__all__ = ["LeakCheckTotals", "count_leak_checks"]


@dataclass(frozen=True, slots=True)
class LeakCheckTotals:
    """Totals of a run's leak checks.

    Attributes:
        proved: number of candidates whose causality was proved, and tested on a block in float64: children when they
            are proposed, programs of `--init` at the start of the search, programs of plugins when they are loaded, and
            library programs by the tests of this package.
        probed: number of trials whose language model was probed before the first step.
        rechecked: number of trained models that were probed again before their loss counted.
        moved_logits: largest change of a logit that must not change, over models that passed; None before the first.
        quarantined: number of results below the loss floor that further checks cleared.
        refused: number of trials that a probe refused, by reason.
    """

    proved: int
    probed: int
    rechecked: int
    moved_logits: float | None
    quarantined: int
    refused: dict[str, int]

    def __add__(self, later: LeakCheckTotals) -> LeakCheckTotals:
        """Return the sum of two totals, which must be of different trials and candidates."""
        moved = [each.moved_logits for each in (self, later) if each.moved_logits is not None]
        return LeakCheckTotals(
            proved=self.proved + later.proved,
            probed=self.probed + later.probed,
            rechecked=self.rechecked + later.rechecked,
            moved_logits=max(moved, default=None),
            quarantined=self.quarantined + later.quarantined,
            refused=dict(Counter(self.refused) + Counter(later.refused)),
        )


def count_leak_checks(evaluations: Sequence[Evaluation], candidates: int) -> LeakCheckTotals:
    """Return the totals of a run from the evaluations of its trials and the number of its candidates."""
    moved = [trial.moved_logits for trial in evaluations if trial.moved_logits is not None]
    reasons = Counter(trial.outcome.partition(":")[2] for trial in evaluations if trial.kind == "rejected")
    refused = {reason: reasons[reason] for reason in ("causality", "batch", "finiteness") if reasons[reason]}
    return LeakCheckTotals(
        proved=candidates,
        probed=sum(bool(trial.steps) for trial in evaluations) + sum(refused.values()),
        rechecked=len(moved),
        moved_logits=max(moved, default=None),
        quarantined=sum(bool(trial.quarantine) for trial in evaluations),
        refused=refused,
    )
