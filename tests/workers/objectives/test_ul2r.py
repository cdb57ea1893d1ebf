"""The mixture of denoisers: sequences, shares, reproducibility, and no target in a prefix."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.models.training_batch import TrainingBatch, mean_loss
from primer_search.primitives import UsageError, build_graph
from primer_search.primitives.programs import library
from primer_search.workers.objectives.objective import Objective
from primer_search.workers.objectives.ul2r import Ul2rObjective, ul2r_objective

TEXT = np.random.default_rng(3).integers(300, size=40_000).astype(np.uint16)
LENGTH, BATCH = 64, 8


def objective(seed: int = 0, length: int = LENGTH, batch: int = BATCH, **settings: dict[str, float]) -> Ul2rObjective:
    """A small mixture of denoisers."""
    return ul2r_objective(
        TEXT, TEXT[:9_000], 300, batch=batch, length=length, seed=seed, held_out_batches=2, **settings
    )


def arrays(batch: TrainingBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens, weights and prefix of a batch, whose sequences are not packed."""
    assert batch.weights is not None and batch.prefix is not None and batch.segment_ids is None
    return batch.tokens, batch.weights, batch.prefix


def assert_same(one: TrainingBatch, other: TrainingBatch) -> None:
    """Two batches are equal."""
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    mixture: Objective = objective()
    forward = [objective().batch_at(step) for step in range(12)]
    for step in (11, 0, 7):
        assert_same(mixture.batch_at(step), forward[step])
    assert not np.array_equal(objective(seed=1).batch_at(0).tokens, forward[0].tokens)
    for one, other in zip(mixture.held_out(), objective(seed=1).held_out(), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("length", [8, 64, 300])
def test_sequences_are_a_mode_a_corrupted_text_and_its_targets(length: int) -> None:
    mixture = objective(length=length)
    special, seen = mixture.special, set[str]()
    for step in range(20):
        batch = arrays(mixture.batch_at(step))
        assert [array.shape for array in batch] == [(BATCH, length + 1), (BATCH, length), (BATCH, length + 1)]
        assert batch[0].max() < mixture.vocabulary == special.vocabulary
        for tokens, weights, prefix in zip(*batch, strict=True):
            inputs, targets = tokens[prefix], tokens[1:][weights == 1]
            end = len(inputs) + len(targets)
            assert prefix[: len(inputs)].all() and (tokens[len(inputs) : end] == targets).all()
            assert (tokens[end:] == 0).all() and len(tokens) - end <= 4
            mode = next(mode for mode in "RXS" if special.mode(mode) == inputs[0])
            seen.add(mode)
            sentinels = [token for token in inputs[1:] if token >= special.first_sentinel]
            assert sentinels == list(range(special.first_sentinel, special.first_sentinel + len(sentinels)))
            if mode == "S":
                assert not sentinels and (targets < 300).all() and end == length + 1
            else:
                assert targets[0] == special.first_sentinel and targets[-1] == sentinels[-1] + 1
    assert seen == set("RXS")


def test_modes_have_their_shares_over_many_draws() -> None:
    mixture = objective(length=16, batch=100)
    modes = np.concatenate([mixture.batch_at(step).tokens[:, 0] for step in range(100)]) - 300
    assert (np.bincount(modes) / len(modes)).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.015)
    only = objective(weights={"S": 2.0}).batch_at(0)
    assert (only.tokens[:, 0] == mixture.special.mode("S")).all()


def test_splits_of_s_are_uniform() -> None:
    mixture = objective(length=16, batch=100, weights={"S": 1.0})
    inputs = np.concatenate([arrays(mixture.batch_at(step))[2].sum(axis=1) for step in range(100)]) - 1
    counts = np.bincount(inputs, minlength=16)[1:]
    assert len(counts) == 15 and counts.sum() == 10_000
    assert counts.min() > 0.85 * 10_000 / 15 and counts.max() < 1.15 * 10_000 / 15


def test_it_says_which_spans_do_not_fit() -> None:
    assert not objective(length=300).notes
    (note,) = objective().notes
    assert note.startswith(
        "sequences of 64 tokens are too short for spans of 32 tokens at 15% removed: denoiser X-long"
    )
    with pytest.raises(UsageError, match="needs at least 8"):
        objective(length=7)


def test_losses_are_those_of_targets_alone_whatever_the_padding(rng: np.random.Generator) -> None:
    mixture = objective(length=24)
    config = ModelConfig(layers=2, unit=2, length=24, vocabulary=mixture.vocabulary)
    model = language_model(build_graph(library.get("PRIMER_EZ", 2)), config)
    parameters = model.draw(rng)
    loss = jax.jit(lambda parameters, batch: mean_loss(model.losses(parameters, batch), batch))
    batch = mixture.batch_at(1)
    tokens, weights, prefix = arrays(batch)
    ends = [int(np.flatnonzero(of_row)[-1]) + 2 for of_row in weights]
    assert min(ends) < 25, "some sequence of this test is padded"
    padded, losses = tokens.copy(), jax.jit(model.losses)
    slow, count = 0.0, 0
    for row, end in enumerate(ends):
        padded[row, end:] = 17
        alone = TrainingBatch(tokens[row : row + 1, :end], prefix=prefix[row : row + 1, :end])
        first = int(prefix[row].sum()) - 1
        slow += float(losses(parameters, alone)[0, first:].sum())
        count += end - 1 - first
    found = float(loss(parameters, batch))
    assert found == pytest.approx(slow / count, rel=1e-5)
    assert float(loss(parameters, TrainingBatch(padded, weights, prefix=prefix))) == found
