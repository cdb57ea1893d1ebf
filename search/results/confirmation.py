"""Confirmations: candidates retrained with fresh random seeds and scored once on the test text.

A search ranks most candidates by one noisy training, and selects on the text that it ranks by, so part of any lead is
luck. Confirmation removes both causes: the seeds are fresh and paired with the baseline's, and the score is on the test
split, which nothing else reads. Picking the best of the confirmed candidates is another selection. The intervals are
widened for it (Sidak), so the interval of the picked candidate still holds.

Where trainings are counted in steps and the steps are timed (`trial.price`), the difference to the baseline is given
twice. **At equal steps** it is the difference of the test losses. **At equal time**, a program whose step takes p times
as long as the baseline's has reached N / p steps when the baseline has reached N. So its loss after N / p steps minus
its loss after N is added to its test loss. This correction comes from the program's own learning curve on the
*validation* text (`learning_curve`), because the test text is scored once, at the end; the curve of a faster program is
extrapolated. Each training is corrected with its own timing, so errors of the timing widen the interval. A program is
confirmed better only if it is better in both of these views, so having two views does not widen the intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...workers.protocol import Evaluation, loss_unit
from ..evolution.candidate import BASELINE_ID
from .learning_curve import loss_change_nats
from .statistics import Estimate, known_mean, paired_differences

if TYPE_CHECKING:
    from ..runs.records import Event

__all__ = [
    "Confirmation",
    "Retraining",
    "bits_by_view",
    "confirmations",
    "read_retraining",
    "read_retrainings",
    "retrained_candidates",
]


@dataclass(frozen=True, slots=True)
class Retraining:
    """One training with a fresh random seed, scored on the test text.

    Attributes:
        name: `baseline`, `#12`, or the name of another program: of the library, `RUN:12`, or a file.
        candidate_id: id of the candidate; None for programs that are not of this run.
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
        rank: rank by `ranking_score`, from 1; None if a training failed.
        name: name of the program, as in `Retraining`.
        candidate_id: id of the candidate; None for programs that are not of this run.
        trainings, failed: number of trainings, and number of trainings without a loss.
        test_loss_nats, test_bits_per_byte: means over the trainings, on the test text.
        test_word_perplexity: mean on the test text; None unless the text counts words.
        validation_bits_per_byte: mean on the validation text, to compare with the search.
        difference: difference to the baseline in bits per byte of the test text, paired by seed; negative is better.
            The 95% interval is corrected for the number of programs confirmed together.
        steps, epochs: means over the trainings.
        budget: budget of each training, in the trial's unit.
        price: mean step time relative to the baseline's, both timed in the same way; None unless steps are counted and
            timed.
        equal_time_difference: difference to the baseline at equal time, like `difference`; None without prices.
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
    price: float | None = None
    equal_time_difference: Estimate | None = None

    @property
    def unit(self) -> str:
        """Unit of the score and the differences."""
        return loss_unit([(self.test_loss_nats, self.test_bits_per_byte)])

    @property
    def score(self) -> float | None:
        """Loss on the test text, in `unit`."""
        return self.test_loss_nats if self.test_bits_per_byte is None else self.test_bits_per_byte

    @property
    def views(self) -> dict[str, Estimate | None]:
        """The differences to the baseline by view: at equal steps and at equal time, or only one without prices."""
        if self.price is None:
            return {"": self.difference}
        return {"at equal steps": self.difference, "at equal time": self.equal_time_difference}

    @property
    def ranking_score(self) -> float | None:
        """The larger of the differences at equal steps and at equal time, 0 for the baseline; None without any.

        Differences are paired by seed. Mean losses are not compared, because programs may have different seeds.
        """
        if self.candidate_id == BASELINE_ID:
            return 0.0
        known = [view.mean for view in self.views.values() if view is not None]
        return max(known, default=None)

    @property
    def verdict(self) -> str:
        """The comparison with the baseline as text."""
        if self.candidate_id == BASELINE_ID:
            return "the baseline"
        if self.failed:
            return f"unstable: {self.failed} of {self.trainings} fresh trainings gave no loss"
        found = {view: _sign(difference) for view, difference in self.views.items()}
        if self.undecided:
            return "too few trainings for an interval"
        if len(set(found.values())) > 1:
            return ", ".join(f"{sign} {view}" for view, sign in found.items())
        (sign,) = set(found.values())
        return "not told apart from the baseline" if sign == "not told apart" else f"confirmed {sign} than the baseline"

    @property
    def undecided(self) -> bool:
        """Whether the program has no verdict, because too few of its trainings gave a loss for an interval."""
        return not self.failed and any(_sign(difference) == "" for difference in self.views.values())

    @property
    def better(self) -> bool:
        """Whether the program is confirmed to be better than the baseline, in every view."""
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
    """Return the confirmations, best first. Only retrainings with the last budget count; others are not comparable.

    The result is empty if no candidate of the run other than the baseline was retrained.
    """
    if all(each.candidate_id in (None, BASELINE_ID) for each in retrainings):
        return ()
    budget = retrainings[-1].budget
    latest = {(each.name, each.seed): each for each in retrainings if each.budget == budget}
    arms: dict[str, list[Retraining]] = {}
    for each in latest.values():
        arms.setdefault(each.name, []).append(each)
    views = bits_by_view(arms)
    differences, corrected = (
        paired_differences(bits, "baseline", simultaneous=True) if bits.get("baseline") else {}
        for bits in views.values()
    )
    baseline_price = _baseline_price(arms)
    rows = [
        _confirmation(name, found, differences.get(name), corrected.get(name), baseline_price)
        for name, found in arms.items()
    ]
    rows.sort(key=_rank_order)
    ranked = [row for row in rows if not row.failed]
    return tuple(replace(row, rank=ranked.index(row) + 1 if row in ranked else None) for row in rows)


def _rank_order(row: Confirmation) -> tuple[bool, bool, bool, float, float]:
    """Return the key of the ranking: failures last, then by the paired difference, then by the loss."""
    score = row.ranking_score
    return bool(row.failed), row.test_loss_nats is None, score is None, score or 0.0, row.score or 0.0


def bits_by_view(arms: Mapping[str, Sequence[Retraining]]) -> dict[str, dict[str, dict[int, float]]]:
    """Return the losses of programs on the test text at equal steps and at equal time, by program and random seed.

    A program without prices has no losses at equal time; for the baseline, they are its losses at equal steps.

    Args:
        arms: retrainings by program.
    """
    at_equal_steps = {name: _bits_at_equal_steps(found) for name, found in arms.items()}
    baseline_price = _baseline_price(arms)
    at_equal_time = {name: _bits_at_equal_time(found, baseline_price) for name, found in arms.items()}
    if "baseline" in arms:
        at_equal_time["baseline"] = at_equal_steps["baseline"]
    return {"equal steps": at_equal_steps, "equal time": at_equal_time}


def _bits_at_equal_steps(found: Sequence[Retraining]) -> dict[int, float]:
    """Return the loss of each training on the test text (`Evaluation.test_score`) by random seed."""
    return {each.seed: each.evaluation.test_score for each in found if each.evaluation.test_score is not None}


def _baseline_price(arms: Mapping[str, Sequence[Retraining]]) -> float:
    """Return the measured price of the baseline, which only a bias of the timing makes different from 1."""
    timed = [each.evaluation.relative_step for each in arms.get("baseline", ()) if each.evaluation.relative_step]
    return fmean(timed) if timed else 1.0


def _bits_at_equal_time(found: Sequence[Retraining], baseline_price: float) -> dict[int, float]:
    """Return the loss of each training on the test text at equal time, by random seed; empty without prices."""
    corrected = {}
    for each in found:
        one = each.evaluation
        change = loss_change_nats(one, baseline_price / one.relative_step) if one.relative_step else None
        if change is not None and one.test_loss_nats and one.test_score is not None:
            corrected[each.seed] = one.test_score * (1.0 + change / one.test_loss_nats)
    return corrected


def retrained_candidates(confirmed: Iterable[Confirmation]) -> dict[int, Confirmation]:
    """Return the confirmations of the run's candidates by id, best first, without the baseline and other programs."""
    return {
        row.candidate_id: row for row in confirmed if row.candidate_id is not None and row.candidate_id != BASELINE_ID
    }


def _sign(difference: Estimate | None) -> str:
    """Return `better`, `worse` or `not told apart`; empty if the difference has no interval."""
    if difference is None or difference.low is None or difference.high is None:
        return ""
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "not told apart"


def _confirmation(
    name: str,
    found: Sequence[Retraining],
    difference: Estimate | None,
    equal_time_difference: Estimate | None,
    baseline_price: float,
) -> Confirmation:
    full = [each.evaluation for each in found if each.evaluation.test_loss_nats is not None]

    def mean(field: str) -> float | None:
        return known_mean(getattr(evaluation, field) for evaluation in full)

    price = mean("relative_step")
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
        price=price / baseline_price if price is not None and _bits_at_equal_time(found, baseline_price) else None,
        equal_time_difference=equal_time_difference,
    )
