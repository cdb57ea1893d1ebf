"""Confirmations: candidates retrained with fresh random seeds and scored once on the test text.

A search ranks each candidate by one noisy training, on the text by which it also selected, so part of any lead is luck.
Confirmation removes both: the seeds are fresh and paired with the baseline's, and the score is on the test split, which
nothing else reads. Picking the best of the confirmed candidates is a selection again. The intervals are widened for it
(Sidak), so the interval of the picked candidate still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID
from .statistics import Estimate, known_mean, paired_differences

if TYPE_CHECKING:
    from ..runs.records import Event

__all__ = ["Confirmation", "Retraining", "confirmations", "read_retraining", "read_retrainings"]


@dataclass(frozen=True, slots=True)
class Retraining:
    """One training with a fresh random seed, scored on the test text.

    Attributes:
        name: `baseline`, `#12`, or the name of a library program.
        candidate_id: id of the candidate; None for library programs.
        seed: random seed, shared by all programs that are compared.
        budget: training budget, in the trial's unit.
        evaluation: evaluation with the loss on the test text.
    """

    name: str
    candidate_id: int | None
    seed: int
    budget: float
    evaluation: Evaluation

    def payload(self) -> dict[str, Any]:
        """Return the payload of an event `confirmed`."""
        return {"name": self.name, "seed": self.seed, "budget": self.budget, "evaluation": self.evaluation.to_dict()}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One program's retrainings, compared with the baseline's.

    Attributes:
        rank: rank by mean loss on the test text, from 1; None if a training failed.
        name: name of the program, as in `Retraining`.
        candidate_id: id of the candidate; None for library programs.
        trainings, failed: number of trainings, and of those without a loss.
        test_loss_nats, test_bits_per_byte: means over the trainings, on the test text.
        test_word_perplexity: mean on the test text; None unless the text counts words.
        validation_bits_per_byte: mean on the validation text, to compare with the search.
        difference: difference to the baseline in bits per byte of the test text, paired by seed; negative is better.
            The 95% interval is corrected for the number of programs confirmed together.
        steps, epochs: means over the trainings.
        budget: budget of each training, in the trial's unit.
    """

    rank: int | None
    name: str
    candidate_id: int | None
    trainings: int
    failed: int
    test_loss_nats: float | None
    test_bits_per_byte: float | None
    test_word_perplexity: float | None
    validation_bits_per_byte: float | None
    difference: Estimate | None
    steps: float | None
    epochs: float | None
    budget: float

    @property
    def verdict(self) -> str:
        """The comparison with the baseline as text."""
        if self.candidate_id == BASELINE_ID:
            return "the baseline"
        if self.failed:
            return f"unstable: {self.failed} of {self.trainings} fresh trainings gave no loss"
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return "too few trainings for an interval"
        if self.difference.high < 0:
            return "confirmed better than the baseline"
        if self.difference.low > 0:
            return "confirmed worse than the baseline"
        return "not told apart from the baseline"

    @property
    def better(self) -> bool:
        """Whether the program is confirmed to be better than the baseline."""
        return self.verdict == "confirmed better than the baseline"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "verdict": self.verdict}


def read_retrainings(events: Iterable[Event]) -> list[Retraining]:
    """Return the retrainings among a run's events, in order of arrival."""
    return [read_retraining(event) for event in events if event.kind == "confirmed"]


def read_retraining(event: Event) -> Retraining:
    """Return the retraining that an event records."""
    payload = event.payload
    evaluation = Evaluation.from_dict(payload["evaluation"])
    return Retraining(payload["name"], event.candidate_id, payload["seed"], payload["budget"], evaluation)


def confirmations(retrainings: Sequence[Retraining]) -> tuple[Confirmation, ...]:
    """Return the confirmations, best first, from the retrainings with the last budget, as only these are comparable.

    The result is empty if only the baseline and library programs were retrained.
    """
    if all(each.candidate_id in (None, BASELINE_ID) for each in retrainings):
        return ()
    budget = retrainings[-1].budget
    latest = {(each.name, each.seed): each for each in retrainings if each.budget == budget}
    arms: dict[str, list[Retraining]] = {}
    for each in latest.values():
        arms.setdefault(each.name, []).append(each)
    bits = {name: _test_bits(found) for name, found in arms.items()}
    differences = paired_differences(bits, "baseline", simultaneous=True) if bits.get("baseline") else {}
    rows = [_confirmation(name, found, differences.get(name)) for name, found in arms.items()]
    rows.sort(key=lambda row: (bool(row.failed), row.test_bits_per_byte is None, row.test_bits_per_byte or 0.0))
    ranked = [row for row in rows if not row.failed]
    return tuple(replace(row, rank=ranked.index(row) + 1 if row in ranked else None) for row in rows)


def _test_bits(found: Sequence[Retraining]) -> dict[int, float]:
    return {
        each.seed: each.evaluation.test_bits_per_byte
        for each in found
        if each.evaluation.test_bits_per_byte is not None
    }


def _confirmation(name: str, found: Sequence[Retraining], difference: Estimate | None) -> Confirmation:
    full = [each.evaluation for each in found if each.evaluation.test_loss_nats is not None]

    def mean(field: str) -> float | None:
        return known_mean(getattr(evaluation, field) for evaluation in full)

    return Confirmation(
        rank=None,
        name=name,
        candidate_id=found[0].candidate_id,
        trainings=len(found),
        failed=len(found) - len(full),
        test_loss_nats=mean("test_loss_nats"),
        test_bits_per_byte=mean("test_bits_per_byte"),
        test_word_perplexity=mean("test_word_perplexity"),
        validation_bits_per_byte=mean("bits_per_byte"),
        difference=difference,
        steps=mean("steps"),
        epochs=mean("epochs"),
        budget=found[0].budget,
    )
