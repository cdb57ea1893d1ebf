"""Result of a rank reduction: what was tried and kept, and its effect on text that was not used for the choice."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .paired_difference import PairedDifference

__all__ = ["Criterion", "Reduction", "RefinementResult", "Scores", "TokenGroup", "TriedReduction"]

Criterion = Literal["loss", "accuracy"]

BYTES = 4
"""Bytes of a parameter, float32."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of next-token prediction.

    Attributes:
        loss_nats: mean loss in nats per token.
        accuracy: share of the tokens to which the model gives the highest probability.
    """

    loss_nats: float
    accuracy: float

    def better_than(self, other: Scores, criterion: Criterion) -> bool:
        """Return whether these scores are better than other ones by the criterion."""
        return self.loss_nats < other.loss_nats if criterion == "loss" else self.accuracy > other.accuracy


@dataclass(frozen=True, slots=True)
class Reduction:
    """One matrix of one layer at a lower rank.

    Attributes:
        layer: number of the layer, from 1.
        matrix: path of the projection in the program.
        share: requested share of the largest rank.
        rank: rank.
        largest_rank: rank of the trained matrix.
        relative_error: Frobenius norm of the removed part, divided by the norm of the matrix.
        parameters: number of scalars of the trained kernel.
        kept_parameters: number of scalars of its factors, or of the kernel if that has fewer.
    """

    layer: int
    matrix: str
    share: float
    rank: int
    largest_rank: int
    relative_error: float
    parameters: int
    kept_parameters: int


@dataclass(frozen=True, slots=True)
class TriedReduction:
    """A reduction, and the scores of the model with it on the choosing part of the text."""

    reduction: Reduction
    scores: Scores


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Scores of the tokens of one group on the reporting part of the text, before and after.

    Attributes:
        name: `all`, or how frequent the tokens are in the training text.
        ids: number of token ids in the group.
        tokens: number of tokens that were scored.
        before, after: scores of the original and of the refined model.
        loss_change: change of the loss in nats per token, with its standard error.
        accuracy_change: change of the accuracy, with its standard error.
    """

    name: str
    ids: int
    tokens: int
    before: Scores
    after: Scores
    loss_change: PairedDifference
    accuracy_change: PairedDifference


@dataclass(frozen=True, slots=True)
class RefinementResult:
    """A rank reduction of a model.

    Attributes:
        name: name of the original model.
        data: source of the text.
        dataset_hash: hash of the text.
        criterion: score that was improved.
        margin: standard errors by which a reduction had to help on the choosing part.
        choosing_tokens: number of tokens that reductions were chosen on.
        reporting_tokens: number of other tokens, on which `groups` is measured.
        bits_per_nat: bits per byte of one nat per token; None if the token ids have no text.
        original: scores of the original model on the choosing part.
        tried: every reduction alone, on the choosing part.
        kept: kept reductions in the order in which they were added, each with the scores of the model with this
            reduction and all before it.
        groups: scores on all reporting tokens, then on the tokens of each frequency; empty if nothing is kept.
        parameters: number of scalars of the original model.
    """

    name: str
    data: str
    dataset_hash: str
    criterion: Criterion
    margin: float
    choosing_tokens: int
    reporting_tokens: int
    bits_per_nat: float | None
    original: Scores
    tried: tuple[TriedReduction, ...]
    kept: tuple[TriedReduction, ...]
    groups: tuple[TokenGroup, ...]
    parameters: int

    @property
    def saved_parameters(self) -> int:
        """Number of scalars that the factors of the kept reductions save."""
        return sum(each.reduction.parameters - each.reduction.kept_parameters for each in self.kept)

    @property
    def verdict(self) -> str:
        """Effect of the refinement on the reporting part, in one sentence."""
        if not self.groups:
            noise = f" by more than {self.margin:g} standard errors" if self.margin else ""
            return f"no reduction helped on the choosing part: none improves the {self.criterion}{noise}"
        all_tokens = self.groups[0]
        change = all_tokens.loss_change if self.criterion == "loss" else all_tokens.accuracy_change
        if not change.beyond_noise:
            return f"no difference beyond noise in {self.criterion} on the reporting part"
        better = all_tokens.after.better_than(all_tokens.before, self.criterion)
        return f"{'better' if better else 'worse'} {self.criterion} on the reporting part, beyond noise"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a loss that is not finite is null."""
        saved = self.saved_parameters
        return {
            **_without_infinities(asdict(self)),
            "verdict": self.verdict,
            "saved_parameters": saved,
            "saved_bytes": BYTES * saved,
        }


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
