"""Search for the matrices of a trained model whose ranks can be reduced, so that it predicts better.

    every layer, matrix and share of its rank:  score the model with this reduction alone on the choosing part
    best share of each matrix, the best first:  keep the reduction if the model with all kept ones gets better
    all kept reductions together:               score the model on the reporting part

This is layer-selective rank reduction (Sharma et al. 2023, arXiv 2312.13558). As in the paper, the choosing part is 20%
of the text. The best of many reductions on this part is partly the best by luck, and on the reporting part the luck is
gone. On a small model, ten reductions that each helped a little on the choosing part made the model worse on the
reporting part (benchmarks/results/rank_reduction.txt). So a reduction must help by more than the noise: by more than
`margin` standard errors of the difference on the same tokens. The paper's rule is a margin of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ...models.analysis.finite_check import check_losses, check_parameters
from ...models.analysis.projections import find_projections
from ...models.analysis.rank_reduction import Factors, SingularValues, decompose, rank_at
from ...models.analysis.token_scores import TokenScores, make_token_scorer
from ...models.checkpoint import Weights
from ...models.language_model import language_model
from ...primitives.errors import UsageError
from ...workers.data.dataset import Dataset
from ..weights.held_out_text import Windows, held_out_parts
from .paired_difference import paired_difference
from .refinement_result import Criterion, Reduction, RefinementResult, Scores, TriedReduction
from .step_counter import StepCounter
from .token_groups import compare_by_frequency, count_ids, frequency_of_ids

__all__ = ["MARGIN", "SHARES", "Place", "RefinedModel", "refine_ranks"]

Place = tuple[int, str]
"""Layer, counted from 0, and name of an array of the block."""

SHARES = (0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01)
"""Shares of the largest rank that are tried."""

MARGIN = 3.0
"""Standard errors by which a reduction must help: of 700 reductions without effect, one gains as much by chance."""

CHOOSING_SHARE = 0.2
"""Share of the text that reductions are chosen on, as in the paper."""


@dataclass(frozen=True, slots=True, eq=False)
class RefinedModel:
    """A refined model.

    Attributes:
        result: reductions that were tried and kept, and their measurements.
        parameters: parameters of the refined model; the original ones if nothing is kept.
        factors: factors of the kept matrices, float64.
    """

    result: RefinementResult
    parameters: dict[str, Any]
    factors: Mapping[Place, Factors]


def refine_ranks(
    weights: Weights,
    dataset: Dataset,
    tokens: int,
    shares: Sequence[float] = SHARES,
    criterion: Criterion = "loss",
    margin: float = MARGIN,
    name: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RefinedModel:
    """Reduce the rank of each matrix of a trained model if the model then predicts better.

    Args:
        weights: trained model.
        dataset: text with the model's tokenizer.
        tokens: tokens of the validation text to use; reductions are chosen on a fifth of them.
        shares: shares of the largest rank to try.
        criterion: score to improve. The loss is less noisy, because it uses the probability of every token. The paper
            improved the accuracy.
        margin: standard errors by which a reduction must help on the choosing part.
        name: name of the model.
        progress: called with the number of scored models and the number of models to score.

    Raises:
        UsageError: the program has no matrices, the text is too short, or the model has values on it that are not
            finite.
    """
    models = _ReducedModels(weights)
    choosing, reporting = held_out_parts(dataset, weights.model.length, tokens, CHOOSING_SHARE)
    plan = models.plan(shares)
    steps = StepCounter(1 + sum(len(own) for _, own in plan), progress)

    def choose(reduced: Mapping[Place, Factors]) -> TokenScores:
        scores = models.score(reduced, choosing)
        steps.next()
        return scores

    rule = _Rule(criterion, margin)
    original = choose({})
    models.check(original, choosing)
    tried, best = _sweep(models, plan, choose, original, rule)
    steps.add(len(best))
    kept, factors = _combine(best, choose, original, rule)
    groups = ()
    if kept:
        before, after = models.score({}, reporting), models.score(factors, reporting)
        models.check(before, reporting)
        targets = reporting[..., 1:].reshape(before.losses.shape)
        counts = count_ids(dataset.train, dataset.vocabulary)  # no special tokens: no text has them
        groups = compare_by_frequency(targets, before, after, frequency_of_ids(counts))
    result = RefinementResult(
        name=name,
        data=dataset.manifest["source"],
        dataset_hash=dataset.dataset_hash,
        criterion=criterion,
        choosing_tokens=choosing[..., 1:].size,
        reporting_tokens=reporting[..., 1:].size,
        bits_per_nat=dataset.nats_per_token_to_bits_per_byte(1.0, "validation"),
        margin=margin,
        original=_scores(original),
        tried=tuple(tried),
        kept=tuple(kept),
        groups=groups,
        parameters=sum(array.size for array in jax.tree.leaves(weights.parameters)),
    )
    return RefinedModel(result, models.parameters(factors), factors)


class _ReducedModels:
    """A trained model with some of its matrices at lower ranks."""

    def __init__(self, weights: Weights):
        model = weights.model
        self._projections = {each.name: each for each in find_projections(weights.graph, model.unit, model.length)}
        if not self._projections:
            raise UsageError("the program has no CONV_1X1, so there is no matrix whose rank could be reduced")
        check_parameters(weights.parameters)
        self._layers, self._weights = model.layers, weights
        self._model = language_model(weights.graph, model)
        self._scorer = make_token_scorer(self._model)
        self._on_device = jax.device_put(weights.parameters)

    def plan(self, shares: Sequence[float]) -> list[tuple[Place, dict[int, float]]]:
        """Return the ranks to try at each place with their shares: each rank below the largest once."""
        return [
            (
                (layer, name),
                {
                    rank: share
                    for share in shares
                    if (rank := rank_at(share, projection.largest_rank)) < projection.largest_rank
                },
            )
            for layer in range(self._layers)
            for name, projection in self._projections.items()
        ]

    def decompose(self, place: Place) -> SingularValues:
        """Return the decomposition of the matrices at a place."""
        layer, name = place
        return decompose(self._projections[name].to_matrices(self._weights.parameters["blocks"][name][layer]))

    def describe(self, place: Place, found: SingularValues, rank: int, share: float) -> Reduction:
        """Return the description of a reduction."""
        layer, name = place
        projection = self._projections[name]
        whole, kept = projection.parameters_at(projection.largest_rank), projection.parameters_at(rank)
        error = found.relative_error(rank)
        return Reduction(layer + 1, projection.title, share, rank, projection.largest_rank, error, whole, kept)

    def parameters(self, reduced: Mapping[Place, Factors]) -> dict[str, Any]:
        """Return the parameters of the model with reduced matrices, on the host."""
        return {**self._weights.parameters, "blocks": {**self._weights.parameters["blocks"], **self._arrays(reduced)}}

    def score(self, reduced: Mapping[Place, Factors], text: Windows) -> TokenScores:
        """Return the scores of the model with reduced matrices."""
        arrays = jax.device_put(self._arrays(reduced))
        return self._scorer({**self._on_device, "blocks": {**self._on_device["blocks"], **arrays}}, text)

    def check(self, scores: TokenScores, text: Windows) -> None:
        """Check that the scores of the unchanged model are finite.

        Raises:
            UsageError: they are not finite; the message names the layer.
        """
        check_losses(scores.losses, self._model, self._on_device, np.concatenate(text))

    def _arrays(self, reduced: Mapping[Place, Factors]) -> dict[str, np.ndarray]:
        """Return the arrays of the block that the reductions change, each with all layers."""
        arrays: dict[str, np.ndarray] = {}
        for (layer, name), factors in reduced.items():
            array = arrays.setdefault(name, np.array(self._weights.parameters["blocks"][name]))
            array[layer] = self._projections[name].from_matrices(factors.product)
        return arrays


@dataclass(frozen=True, slots=True)
class _Rule:
    """Rule that decides whether a model is better than another one."""

    criterion: Criterion
    margin: float

    def error(self, scores: TokenScores) -> float:
        """Return the score to minimize: the loss or the share of wrong tokens."""
        return scores.loss_nats if self.criterion == "loss" else 1.0 - scores.accuracy

    def helps(self, scores: TokenScores, reference: TokenScores) -> bool:
        """Return whether scores are better than the reference on the same windows by more than the margin."""
        if not np.isfinite(self.error(scores)):
            return False
        if self.criterion == "loss":
            windows = np.mean(reference.losses.astype(np.float64) - scores.losses, axis=1)
        else:
            windows = np.mean(scores.correct.astype(np.float64) - reference.correct, axis=1)
        gain = paired_difference(windows)
        if gain.mean is None or (gain.error is None and self.margin > 0):
            return False  # with a single window, the standard error is unknown
        return gain.mean > self.margin * (gain.error or 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The best reduction of one place."""

    place: Place
    factors: Factors
    reduction: Reduction
    scores: TokenScores


def _sweep(
    models: _ReducedModels,
    plan: Sequence[tuple[Place, dict[int, float]]],
    choose: Callable[[Mapping[Place, Factors]], TokenScores],
    original: TokenScores,
    rule: _Rule,
) -> tuple[list[TriedReduction], list[_Choice]]:
    """Try every reduction alone; return all results, and the best helpful reduction of each place, the best first."""
    tried: list[TriedReduction] = []
    best: dict[Place, _Choice] = {}
    for place, ranks in plan:
        found = models.decompose(place)
        for rank, share in ranks.items():
            factors, reduction = found.factors(rank), models.describe(place, found, rank, share)
            scores = choose({place: factors})
            tried.append(TriedReduction(reduction, _scores(scores)))
            leads = place not in best or rule.error(scores) < rule.error(best[place].scores)
            if leads and rule.helps(scores, original):
                best[place] = _Choice(place, factors, reduction, scores)
    return tried, sorted(best.values(), key=lambda choice: rule.error(choice.scores))


def _combine(
    best: Sequence[_Choice],
    choose: Callable[[Mapping[Place, Factors]], TokenScores],
    original: TokenScores,
    rule: _Rule,
) -> tuple[list[TriedReduction], dict[Place, Factors]]:
    """Add one reduction after the other, and keep it if it helps the model with all reductions kept so far."""
    kept: list[TriedReduction] = []
    factors: dict[Place, Factors] = {}
    reference = original
    for choice in best:
        scores = choose({**factors, choice.place: choice.factors})
        if rule.helps(scores, reference):
            kept.append(TriedReduction(choice.reduction, _scores(scores)))
            factors[choice.place], reference = choice.factors, scores
    return kept, factors


def _scores(scores: TokenScores) -> Scores:
    return Scores(scores.loss_nats, scores.accuracy)
