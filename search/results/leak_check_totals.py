"""What a run checked for programs that see the future and for results too good to be true, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...workers.protocol import Evaluation

__all__ = ["LeakCheckTotals", "count_leak_checks"]


@dataclass(frozen=True, slots=True)
class LeakCheckTotals:
    """The checks for programs that see the future, and for results too good to be true.

    Attributes:
        proved: candidates whose causality was proved, and tested on a block in float64.
        probed: trainings whose language model was probed before the first step.
        rechecked: trained models probed again before their loss counted.
        moved_logits: largest change of a logit that must not change, over models that passed; None before the first.
        quarantined: results below the plausible that further checks cleared.
        refused: trainings that a probe refused, by reason.
    """

    proved: int
    probed: int
    rechecked: int
    moved_logits: float | None
    quarantined: int
    refused: dict[str, int]


def count_leak_checks(evaluations: Sequence[Evaluation], candidates: int) -> LeakCheckTotals:
    """What the evaluations of a run's trainings, and the number of its candidates, say of its checks."""
    moved = [one.moved_logits for one in evaluations if one.moved_logits is not None]
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
