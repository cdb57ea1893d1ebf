"""Regularizers of the residual stream: equal to their formulas, also in the loss of a model; free when unused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.analysis.linearity_penalty import LinearityPenalty
from primer_search.models.analysis.residual_stream import residual_stream
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.models.training_batch import TrainingBatch
from primer_search.primitives import build_graph
from primer_search.primitives.programs.library import get
from primer_search.workers.objectives.packing import EncodedExample, packed_batch
from primer_search.workers.training.steps.batch_model import BatchModel
from primer_search.workers.training.steps.flat_model import FlatModel

CONFIG = ModelConfig(layers=3, unit=2, heads=2, length=8, vocabulary=300)


def penalty_by_formula(kind: str, strength: float, stream: np.ndarray) -> float:
    """Return the penalty of one layer after the other, token by token, in float64."""
    total = 0.0
    for before, after in zip(stream[:-1].astype(np.float64), stream[1:].astype(np.float64), strict=True):
        distances = []
        for one, other in zip(before.reshape(-1, before.shape[-1]), after.reshape(-1, after.shape[-1]), strict=True):
            cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
            distances.append(1.0 - cosine if kind == "cosine" else np.mean((other - one) ** 2))
        total += float(np.mean(distances))
    return strength * total


def model_of(stack: Any, **others: Any) -> LanguageModel:
    graph = build_graph(get("PRIMER_EZ", CONFIG.unit, CONFIG.heads))
    return replace(language_model(graph, replace(CONFIG, stack=stack)), **others)


def streams_of(model: LanguageModel, parameters: Any, batches: Sequence[TrainingBatch]) -> list[np.ndarray]:
    """Return the residual stream of each batch."""
    stream = jax.jit(lambda parameters, batch: model.predict(parameters, batch, stream=True).stream)
    return [np.asarray(stream(parameters, batch)) for batch in batches]


@pytest.fixture
def tokens(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 300, (2, 9)).astype(np.int32)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_a_penalty_equals_its_formula(kind: Any, rng: np.random.Generator) -> None:
    stream = rng.standard_normal((4, 2, 5, 16)).astype(np.float32)
    found = LinearityPenalty(kind, 0.7)(jnp.asarray(stream))
    assert float(found) == pytest.approx(penalty_by_formula(kind, 0.7, stream), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_embeddings_of_zeros_have_finite_gradients(kind: Any) -> None:
    gradient = jax.grad(LinearityPenalty(kind, 1.0))(jnp.zeros((3, 1, 2, 8)))
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("kind", ["cosine", "mse"])
@pytest.mark.parametrize("stack", ["scan", "unroll"])
def test_the_loss_of_a_model_has_the_penalty_of_its_stream(kind: Any, stack: str, tokens: np.ndarray) -> None:
    model = model_of(stack)
    parameters = model.draw(np.random.default_rng(0))
    trained = BatchModel(FlatModel(model), LinearityPenalty(kind, 0.3))
    loss, (losses, _) = jax.jit(trained.loss)(FlatModel(model).flatten(parameters), TrainingBatch(tokens))
    stream = np.asarray(jax.jit(partial(residual_stream, model))(parameters, jnp.asarray(tokens[:, :-1])))
    np.testing.assert_allclose(losses, jax.jit(model.token_losses)(parameters, jnp.asarray(tokens)), atol=1e-5)
    expected = float(np.mean(losses)) + penalty_by_formula(kind, 0.3, stream)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
@pytest.mark.parametrize("prefix", [False, True])
def test_padding_and_the_borders_of_texts_have_no_penalty(kind: Any, prefix: bool, rng: np.random.Generator) -> None:
    """The reference runs each example alone, without padding; its last token is only predicted."""
    model, strength = model_of("unroll"), 0.3
    parameters = model.draw(np.random.default_rng(0))
    sizes = [[(4, 1), (5, 3)], [(3, 2)], []]  # tokens and inputs of the examples; the first sequence has no padding
    packed = [[EncodedExample(rng.integers(0, 300, n).astype(np.int32), first) for n, first in row] for row in sizes]
    batch = packed_batch(packed, CONFIG.length, prefix)
    penalty = LinearityPenalty(kind, strength)
    loss, (losses, _) = jax.jit(BatchModel(model, penalty).loss)(parameters, batch)
    alone = [packed_batch([[example]], len(example.tokens) - 1, prefix) for row in packed for example in row]
    streams = streams_of(model, parameters, alone)
    assert [stream.shape[2] for stream in streams] == [3, 4, 2]
    expected = penalty_by_formula(kind, strength, np.concatenate(streams, axis=2))
    assert float(loss - jnp.mean(losses)) == pytest.approx(expected, rel=1e-4)


def test_the_padding_after_the_targets_has_no_penalty(rng: np.random.Generator) -> None:
    """Sequences without segment ids, as those of the mixture of denoisers: all before the last target is read."""
    model = model_of("unroll")
    parameters, places = model.draw(np.random.default_rng(0)), np.arange(9)[None]
    inputs, ends = np.array([[2], [4], [1]]), np.array([[9], [6], [3]])
    weights = ((places >= inputs - 1) & (places < ends - 1))[:, :-1].astype(np.float32)
    prefix = places < inputs
    batch = TrainingBatch(rng.integers(0, 300, (3, 9)).astype(np.int32), weights, prefix=prefix)
    penalty = LinearityPenalty("cosine", 0.3)
    penalized = jax.jit(BatchModel(model, penalty).loss)
    loss, (losses, _) = penalized(parameters, batch)
    rows = [
        TrainingBatch(batch.tokens[row : row + 1, :end], prefix=prefix[row : row + 1, :end])
        for row, end in enumerate(ends[:, 0])
    ]
    streams = streams_of(model, parameters, rows)
    expected = penalty_by_formula("cosine", 0.3, np.concatenate(streams, axis=2))
    assert float(loss - jnp.mean(losses)) == pytest.approx(expected, rel=1e-4)
    empty = penalized(parameters, replace(batch, weights=weights * 0))[0]
    assert float(empty) == 0.0


@pytest.mark.parametrize("stack", ["scan", "unroll"])
@pytest.mark.parametrize("rematerialize", [False, True])
def test_the_stream_is_that_of_the_layers(stack: str, rematerialize: bool, tokens: np.ndarray) -> None:
    model = model_of(stack, rematerialize=rematerialize)
    parameters = model.draw(np.random.default_rng(0))
    prediction = model.predict(parameters, TrainingBatch(jnp.asarray(tokens)), stream=True)
    assert prediction.stream is not None
    np.testing.assert_allclose(
        prediction.stream, residual_stream(model, parameters, jnp.asarray(tokens[:, :-1])), rtol=1e-4, atol=1e-4
    )
    assert model.predict(parameters, TrainingBatch(jnp.asarray(tokens))).stream is None


@pytest.mark.parametrize("stack", ["scan", "unroll"])
def test_an_unused_stream_costs_nothing(stack: str, tokens: np.ndarray) -> None:
    """Without a penalty, the program of the step holds no array with an axis of layers and one of tokens."""
    model = model_of(stack)
    parameters = model.draw(np.random.default_rng(0))
    with_stream = jax.make_jaxpr(lambda p, t: model.predict(p, TrainingBatch(t), stream=True))(parameters, tokens)
    without = jax.make_jaxpr(lambda p, t: model.predict(p, TrainingBatch(t))[:2])(parameters, tokens)
    stacked = "f32[4,2,8,16]"
    assert stacked in str(with_stream)
    assert stacked not in str(without)
    assert "f32[3,2,8,16]" not in str(without)


def test_a_weighted_loss_is_the_mean_of_the_weighted_tokens(tokens: np.ndarray) -> None:
    model = model_of("unroll")
    parameters = model.draw(np.random.default_rng(0))
    weights = (np.arange(16).reshape(2, 8) % 3 == 0).astype(np.float32)
    losses = np.asarray(jax.jit(model.token_losses)(parameters, jnp.asarray(tokens)))
    batch = TrainingBatch(tokens, weights)
    loss, (weighted, _) = jax.jit(BatchModel(model).loss)(parameters, batch)
    assert float(loss) == pytest.approx(losses[weights > 0].mean(), rel=1e-5)
    assert float(jnp.mean(weighted)) == pytest.approx(float(loss), rel=1e-6)
