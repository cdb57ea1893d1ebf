"""Losses of training batches: those of each text alone, and their weighted mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.training_batch import TrainingBatch, count_tokens, loss_weights, mean_loss, read_positions
from primer_search.primitives import UsageError
from primer_search.tests.support.packed_texts import SEGMENT_IDS, texts_of
from primer_search.tests.support.small_models import small_model

IDS = SEGMENT_IDS[:, [0, *range(8)]]
TOKENS = np.random.default_rng(5).integers(300, size=IDS.shape).astype(np.int32)


def test_a_causal_batch_has_the_losses_of_its_tokens(rng: np.random.Generator) -> None:
    model = small_model("PRIMER_EZ")
    parameters, batch = model.draw(rng), TrainingBatch(TOKENS)
    losses = jax.jit(model.losses)(parameters, batch)
    np.testing.assert_array_equal(losses, jax.jit(model.token_losses)(parameters, TOKENS))
    assert mean_loss(losses, batch) == jnp.mean(losses)
    assert [leaf.shape for leaf in jax.tree.leaves(batch)] == [TOKENS.shape]


@pytest.mark.parametrize("stack", ["unroll", "scan"])
@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ"])
def test_packed_texts_have_the_losses_that_they_have_alone(name: str, stack: str, rng: np.random.Generator) -> None:
    model = small_model(name, stack=stack)
    parameters, batch = model.draw(rng), TrainingBatch(TOKENS, segment_ids=IDS)
    losses, weights = jax.jit(model.losses)(parameters, batch), np.asarray(loss_weights(batch))
    alone, total = jax.jit(model.token_losses), 0.0
    for row, text in texts_of(IDS):
        if text.stop - text.start == 1:
            continue  # nothing to predict
        own = np.asarray(alone(parameters, TOKENS[row : row + 1, text]))[0]
        np.testing.assert_allclose(losses[row, text][: len(own)], own, atol=2e-4)
        np.testing.assert_array_equal(weights[row, text][: len(own)], 1)
        assert text.stop == IDS.shape[1] or weights[row, text.stop - 1] == 0
        total += own.sum()
    assert float(mean_loss(losses, batch)) == pytest.approx(total / weights.sum(), rel=1e-5)


def test_weights_are_those_of_predicted_tokens_of_the_same_text() -> None:
    losses = jnp.arange(24.0).reshape(3, 8)
    weights = np.zeros((3, 8), np.float32)
    weights[0, [2, 3, 4]] = 1, 5, 2  # position 3 predicts the first token of the next text
    batch = TrainingBatch(TOKENS, weights, IDS)
    assert float(mean_loss(losses, batch)) == pytest.approx((2 * 1 + 4 * 2) / 3)
    assert float(mean_loss(losses, TrainingBatch(TOKENS, weights * 0))) == 0


@pytest.mark.parametrize("packed", [False, True])
def test_tokens_are_read_up_to_the_last_one_whose_loss_counts(packed: bool, rng: np.random.Generator) -> None:
    weights = (rng.random((3, 8)) < 0.3).astype(np.float32)
    ids = IDS if packed else np.zeros_like(IDS)
    batch = TrainingBatch(TOKENS, weights, ids if packed else None)
    expected = np.zeros((3, 8), bool)
    for row, text in texts_of(ids):
        counted = [place for place in range(text.start, text.stop - 1) if weights[row, place] > 0]
        expected[row, text.start : max(counted, default=-1) + 1] = True
    np.testing.assert_array_equal(read_positions(batch, np), expected)
    np.testing.assert_array_equal(jax.jit(read_positions)(batch), expected)
    assert count_tokens(batch) == expected.sum()
    assert count_tokens(TOKENS) == count_tokens(TrainingBatch(TOKENS)) == 24


def test_a_block_that_depends_on_the_length_refuses_several_texts(rng: np.random.Generator) -> None:
    model = small_model("PRIMER")
    with pytest.raises(UsageError, match="depends on the sequence length"):
        model.losses(model.init(rng), TrainingBatch(TOKENS, segment_ids=IDS))
