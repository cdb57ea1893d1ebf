"""Denoisers: stated means and shares over many draws, and targets that restore the text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.workers.objectives.denoisers import (
    DENOISERS,
    UL2R_WEIGHTS,
    Denoiser,
    denoiser_weights,
    remove_spans,
    span_mask,
)

DRAWS = 10_000
SPAN_DENOISERS = [denoiser for denoiser in DENOISERS if denoiser.mean_span is not None]


@pytest.mark.parametrize("tokens", [256, 509])
@pytest.mark.parametrize("denoiser", SPAN_DENOISERS, ids=lambda denoiser: denoiser.name)
def test_spans_have_the_stated_mean_and_share(denoiser: Denoiser, tokens: int, rng: np.random.Generator) -> None:
    masks = np.stack([span_mask(denoiser, tokens, rng) for _ in range(DRAWS)])
    spans = (masks & ~np.pad(masks, [(0, 0), (1, 0)])[:, :-1]).sum(axis=1)
    assert masks.mean() == pytest.approx(denoiser.corrupted, rel=2e-3)
    assert masks.sum() / spans.sum() == pytest.approx(denoiser.mean_span, rel=0.01)
    assert spans.max() <= denoiser.most_spans(tokens)
    assert not masks[:, 0].any() and masks[:, -1].all()
    lengths = np.concatenate([span_lengths(mask) for mask in masks[:500]])
    assert lengths.min() <= 2 and lengths.max() > 1.2 * lengths.mean()


def span_lengths(mask: np.ndarray) -> np.ndarray:
    """The lengths of the spans of a mask."""
    return np.diff(np.flatnonzero(np.diff(np.pad(mask.astype(int), 1))))[::2]


def test_a_short_text_has_one_span_of_the_share(rng: np.random.Generator) -> None:
    long = next(denoiser for denoiser in DENOISERS if denoiser.name == "X-long")
    masks = np.stack([span_mask(long, 100, rng) for _ in range(200)])
    assert masks.mean() == pytest.approx(0.15)
    assert all(np.flatnonzero(mask).tolist() == list(range(85, 100)) for mask in masks)


@pytest.mark.parametrize("denoiser", SPAN_DENOISERS, ids=lambda denoiser: denoiser.name)
def test_targets_put_back_in_place_of_sentinels_give_the_text(denoiser: Denoiser, rng: np.random.Generator) -> None:
    for tokens in (5, 8, 40, 300):
        text = rng.integers(1_000, size=tokens)
        inputs, targets = remove_spans(text, span_mask(denoiser, tokens, rng), first_sentinel=1_000)
        cuts = np.flatnonzero(targets >= 1_000)
        assert targets[cuts].tolist() == list(range(1_000, 1_000 + len(cuts))) and cuts[-1] == len(targets) - 1
        spans = {int(targets[cut]): targets[cut + 1 : end] for cut, end in pairwise(cuts)}
        restored = [spans.get(token, [token]) for token in inputs.tolist()]
        np.testing.assert_array_equal(np.concatenate(restored), text)
        assert len(inputs) + len(targets) + 1 <= tokens + denoiser.added_tokens(tokens)


def test_weights_of_modes_are_shared_by_their_denoisers() -> None:
    assert denoiser_weights(UL2R_WEIGHTS).tolist() == [0.25, 0.125, 0.125, 0.5]
    assert denoiser_weights({"X-long": 3, "S": 1}).tolist() == [0, 0.75, 0, 0.25]
    for weights, message in (
        ({"Q": 1.0}, "there is no denoiser 'Q': choose among R, X, S, X-long, X-dense"),
        ({"R": -1.0}, "the weight of denoiser R is -1, but must be finite and at least 0"),
        ({"R": float("nan")}, "the weight of denoiser R is nan"),
        ({"R": 0.0}, "the weights of all denoisers are 0"),
    ):
        with pytest.raises(UsageError, match=message):
            denoiser_weights(weights)
