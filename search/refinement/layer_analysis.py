"""Analysis of the layers of a trained model: how linear each layer is, and how much the loss depends on it.

    one half of the held-out text:  fit a linear map of each layer
    the other half:                 score the maps; measure the loss if a layer is removed, and if its map replaces it

The score and both changes are from Razzhigaev et al. 2024 (arXiv 2405.12250). The last layer is treated like the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise

import jax
import numpy as np

from ...models.analysis.finite_check import check_losses, check_parameters, check_stream
from ...models.analysis.linearity import (
    LinearMap,
    Moments,
    add_moments,
    block_moments,
    fit_linear_map,
    linearity_score,
    moments,
)
from ...models.analysis.residual_stream import LayerChange, make_changed_layer_losses, residual_stream
from ...models.checkpoint import Weights
from ...models.language_model import LanguageModel, language_model
from ...primitives.errors import UsageError
from ...workers.data.dataset import Dataset
from ..results.statistics import finite_or_none
from ..weights.held_out_text import Windows, held_out_parts
from .analysis_result import LayerAnalysis, ModelAnalysis
from .paired_difference import paired_difference
from .step_counter import StepCounter

__all__ = ["analyze_layers"]

TOKENS_PER_CHANNEL = 10
"""Smallest number of tokens to fit a map on, as a multiple of the channels. A map could fit as many tokens as channels
exactly, whatever the layer does."""


def analyze_layers(
    weights: Weights,
    dataset: Dataset,
    tokens: int,
    name: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ModelAnalysis:
    """Analyze every layer of a trained model.

    Args:
        weights: trained model.
        dataset: text with the model's tokenizer.
        tokens: tokens of the validation text to use; the maps are fitted on half of them.
        name: name of the model.
        progress: called with the number of finished steps and the number of all steps.

    Raises:
        UsageError: there are fewer than `TOKENS_PER_CHANNEL` tokens per channel to fit the maps on, or the model has
            values on this text that are not finite.
    """
    check_parameters(weights.parameters)
    model = language_model(weights.graph, weights.model)
    fitted_text, scored_text = held_out_parts(dataset, model.config.length, tokens, 0.5)
    _check_enough(fitted_text, model, dataset, tokens)
    layers = model.config.layers
    steps = StepCounter(2 + 1 + 2 * layers, progress)
    stream = jax.jit(lambda parameters, tokens: residual_stream(model, parameters, tokens))
    parameters = jax.device_put(weights.parameters)
    fitted = _layer_moments(stream, parameters, fitted_text)[0]
    steps.next()
    scored, cosines = _layer_moments(stream, parameters, scored_text)
    steps.next()
    maps = [fit_linear_map(layer) for layer in fitted]
    losses = _ChangedLosses(model, parameters, scored_text)
    by_token = losses.tokens(0, LayerChange.NONE)
    check_losses(by_token, model, parameters, np.concatenate(scored_text))
    unchanged = by_token.mean(axis=1, dtype=np.float64)
    steps.next()
    found = []
    for layer, linear in enumerate(maps):
        removed, _ = paired_difference(losses.windows(layer, LayerChange.REMOVED) - unchanged), steps.next()
        replaced, _ = paired_difference(losses.windows(layer, LayerChange.LINEARIZED, linear) - unchanged), steps.next()
        block = linearity_score(fit_linear_map(block_moments(fitted[layer])), block_moments(scored[layer]))
        scores = (
            finite_or_none(linearity_score(linear, scored[layer])),
            finite_or_none(block),
            finite_or_none(cosines[layer]),
        )
        found.append(LayerAnalysis(layer + 1, *scores, removed, replaced))
    loss = float(np.mean(unchanged))
    return ModelAnalysis(
        name=name,
        data=dataset.manifest["source"],
        dataset_hash=dataset.dataset_hash,
        width=model.config.width,
        fitted_tokens=fitted[0].tokens,
        scored_tokens=scored[0].tokens,
        loss_nats=loss,
        bits_per_nat=dataset.nats_per_token_to_bits_per_byte(1.0, "validation"),
        layers=tuple(found),
    )


class _ChangedLosses:
    """Losses on a text of a model with one changed layer: of each token, [windows, length], or means of windows."""

    def __init__(self, model: LanguageModel, parameters: object, text: Windows):
        self._losses, self._text = make_changed_layer_losses(model, parameters), text

    def tokens(self, layer: int, change: LayerChange, linear: LinearMap | None = None) -> np.ndarray:
        return np.concatenate([self._losses(batch, layer, change, linear) for batch in self._text])

    def windows(self, layer: int, change: LayerChange, linear: LinearMap | None = None) -> np.ndarray:
        return self.tokens(layer, change, linear).mean(axis=1, dtype=np.float64)


def _layer_moments(
    stream: Callable[[object, np.ndarray], jax.Array], parameters: object, text: Windows
) -> tuple[list[Moments], np.ndarray]:
    """Return the moments of every layer on a text, and the mean cosine of its inputs and outputs."""
    by_batch, cosines = [], []
    for batch in text:
        embeddings = np.asarray(stream(parameters, batch[:, :-1]), np.float64)
        check_stream(embeddings)
        embeddings = embeddings.reshape(len(embeddings), -1, embeddings.shape[-1])
        pairs = list(pairwise(embeddings))
        by_batch.append([moments(x, y) for x, y in pairs])
        cosines.append([_mean_cosine(x, y) for x, y in pairs])
    return [reduce(add_moments, layer) for layer in zip(*by_batch, strict=True)], np.mean(cosines, axis=0)


def _mean_cosine(x: np.ndarray, y: np.ndarray) -> float:
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean(np.sum(x * y, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)))


def _check_enough(fitted: Windows, model: LanguageModel, dataset: Dataset, tokens: int) -> None:
    width, used = model.config.width, fitted[..., 1:].size
    needed = 2 * TOKENS_PER_CHANNEL * width
    if used >= needed // 2:
        return
    limited = f"the validation text has {len(dataset.validation):,}: give more text with --data"
    remedy = f"--tokens is {tokens:,}: give at least {needed + 2 * model.config.length:,}"
    raise UsageError(
        f"a map of {width} channels needs at least {needed:,} tokens, half of them for the fit, but "
        f"{remedy if tokens < needed else limited}"
    )
