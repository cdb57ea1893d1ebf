"""Batches: reproducible by seed and step, without replacement within an epoch; a fixed validation set."""

import hashlib

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.workers.data.batches import TrainBatches, validation_batches

TOKENS = np.arange(10_007, dtype=np.uint16)


def test_a_batch_is_windows_of_consecutive_tokens():
    batch = TrainBatches(TOKENS, batch=4, length=32, seed=0).batch_at(3)
    assert batch.shape == (4, 33)
    assert batch.dtype == np.int32
    assert (np.diff(batch, axis=1) == 1).all()


def test_a_batch_depends_on_seed_and_step_alone():
    forward = [TrainBatches(TOKENS, 8, 64, seed=7).batch_at(step) for step in range(80)]
    one = TrainBatches(TOKENS, 8, 64, seed=7)
    for step in [79, 3, 41, 0, 20, 79, 19]:
        np.testing.assert_array_equal(one.batch_at(step), forward[step])
    assert not np.array_equal(TrainBatches(TOKENS, 8, 64, seed=8).batch_at(0), forward[0])


def test_batches_are_those_of_every_machine():
    """A trial that continues under another Python or NumPy sees the batches it would have seen."""
    batches = TrainBatches(TOKENS, 8, 64, seed=7)
    seen = b"".join(batches.batch_at(step).astype("<i4").tobytes() for step in (0, 19, 500))
    assert hashlib.sha256(seen).hexdigest()[:16] == "e2e643529a561066"


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_an_epoch_predicts_every_token_once_but_for_the_ends(batch: int):
    length = 50
    batches = TrainBatches(TOKENS, batch, length, seed=1)
    windows = batches.windows_per_epoch
    steps = -(-3 * windows // batch)
    seen = np.concatenate([batches.batch_at(step) for step in range(steps)])
    for epoch in range(3):
        targets = seen[epoch * windows : (epoch + 1) * windows, 1:].ravel()
        assert len(np.unique(targets)) == len(targets)
        assert len(targets) > len(TOKENS) - 2 * length


def test_epochs_differ_in_order_and_in_where_windows_start():
    batches = TrainBatches(TOKENS, 1, 50, seed=1)
    windows = batches.windows_per_epoch
    first = np.array([batches.batch_at(step)[0, 0] for step in range(windows)])
    second = np.array([batches.batch_at(step)[0, 0] for step in range(windows, 2 * windows)])
    assert (np.diff(first) < 0).any()
    assert first[0] % 50 != second[0] % 50
    assert not np.array_equal(np.argsort(first), np.argsort(second))


def test_epochs_seen_counts_the_text():
    batches = TrainBatches(TOKENS, 10, 100, seed=0)
    assert batches.epochs_seen(0) == 0.0
    assert batches.epochs_seen(200) == pytest.approx(200 * 10 * 100 / len(TOKENS), rel=0.03)


def test_a_batch_larger_than_the_text_repeats_it():
    batch = TrainBatches(TOKENS[:300], batch=16, length=100, seed=0).batch_at(0)
    assert batch.shape == (16, 101)
    assert (np.diff(batch, axis=1) == 1).all()


@pytest.mark.parametrize("extra", range(0, 140, 3))
def test_windows_stay_inside_however_long_the_text(extra: int):
    tokens = TOKENS[: 65 + extra]
    batches = TrainBatches(tokens, 2, 64, seed=extra)
    for step in range(30):
        assert (np.diff(batches.batch_at(step), axis=1) == 1).all()


def test_the_largest_token_ids_survive():
    tokens = np.full(200, 65_535, dtype=np.uint16)
    assert TrainBatches(tokens, 2, 32, seed=0).batch_at(0).min() == 65_535
    assert validation_batches(tokens, 2, 32, 2).min() == 65_535


def test_validation_windows_do_not_overlap_and_reach_both_ends():
    windows = validation_batches(TOKENS, batch=4, length=99, count=25)
    assert windows.shape == (25, 4, 100)
    assert windows.dtype == np.int32
    assert (np.diff(windows, axis=2) == 1).all()
    assert len(np.unique(windows)) == windows.size
    assert windows.min() == 0
    assert windows.max() == TOKENS[-1]
    np.testing.assert_array_equal(windows, validation_batches(TOKENS, 4, 99, 25))


def test_each_validation_batch_is_spread_over_the_split():
    windows = validation_batches(TOKENS, batch=8, length=31, count=4)
    spans = windows.max(axis=(1, 2)) - windows.min(axis=(1, 2))
    assert spans.min() > 0.8 * len(TOKENS)


def test_a_short_split_gives_windows_that_overlap():
    windows = validation_batches(TOKENS[:500], batch=8, length=99, count=4)
    assert windows.shape == (4, 8, 100)
    assert len(np.unique(windows)) == 500


def test_one_window_is_possible():
    np.testing.assert_array_equal(validation_batches(TOKENS[:33], 1, 32, 1)[0, 0], TOKENS[:33])


def test_text_shorter_than_a_window_is_a_usage_error():
    with pytest.raises(UsageError, match=r"training text has 32 tokens.* 33:"):
        TrainBatches(TOKENS[:32], 4, 32, 0)
    with pytest.raises(UsageError, match="validation text has 32 tokens"):
        validation_batches(TOKENS[:32], 4, 32, 1)
