"""Denoisers of UL2 (Tay et al. 2022, arXiv 2205.05131, section 3.1): a model learns to restore a corrupted text.

R (regular) and X (extreme) remove spans of a text, and replace each span by a sentinel token. The targets are the
removed spans, each after its sentinel, and a last sentinel as the end (T5; Raffel et al. 2020, arXiv 1910.10683,
section 3.1.4). S (sequential) splits a text at a uniformly random position, and the targets are the second part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer

from ...primitives.errors import UsageError

__all__ = ["DENOISERS", "MODES", "UL2R_WEIGHTS", "Denoiser", "denoiser_weights", "remove_spans", "span_mask"]

Tokens = Integer[np.ndarray, " tokens"]

MODES = ("R", "X", "S")
"""Modes of denoisers. Each mode has its own token, which begins its sequences."""


@dataclass(frozen=True, slots=True)
class Denoiser:
    """One way to corrupt a text.

    Attributes:
        name: name in settings and tables.
        mode: mode whose token begins its sequences.
        mean_span: mean length of a removed span, in tokens; None: the text is split in two.
        corrupted: share of the tokens that are removed.
    """

    name: str
    mode: str
    mean_span: float | None = None
    corrupted: float = 0.0

    def most_spans(self, tokens: int) -> int:
        """Return the largest number of spans that the denoiser removes from a text."""
        if self.mean_span is None:
            return 0
        return max(1, math.ceil(math.ceil(tokens * self.corrupted) / self.mean_span))

    def added_tokens(self, tokens: int) -> int:
        """Return the largest number of added tokens: the mode token, two sentinels per span, and the last sentinel."""
        return 1 if self.mean_span is None else 2 + 2 * self.most_spans(tokens)

    def text_tokens(self, sequence: int) -> int:
        """Return the number of tokens of text that fit into a sequence together with the added tokens."""
        return next(tokens for tokens in range(sequence, 0, -1) if tokens + self.added_tokens(tokens) <= sequence)


DENOISERS = (
    Denoiser("R", "R", mean_span=3, corrupted=0.15),
    Denoiser("X-long", "X", mean_span=32, corrupted=0.15),
    Denoiser("X-dense", "X", mean_span=3, corrupted=0.5),
    Denoiser("S", "S"),
)
"""The denoisers, with the settings of UL2R (Tay et al. 2022, arXiv 2210.11399, section 3)."""

UL2R_WEIGHTS: Mapping[str, float] = {"R": 0.25, "X": 0.25, "S": 0.5}
"""Share of sequences of each mode, as in public code of UL2R."""


def denoiser_weights(weights: Mapping[str, float]) -> np.ndarray:
    """Return the share of sequences for each of `DENOISERS`; the shares have the sum 1.

    Args:
        weights: weights by the name of a denoiser or of a mode. The denoisers of a mode share its weight equally.

    Raises:
        UsageError: a name is unknown, a weight is negative or not finite, or all are 0.
    """
    shares = np.zeros(len(DENOISERS))
    for name, weight in weights.items():
        chosen = np.array([name in (denoiser.name, denoiser.mode) for denoiser in DENOISERS])
        if not chosen.any():
            names = dict.fromkeys([*MODES, *(denoiser.name for denoiser in DENOISERS)])
            raise UsageError(f"there is no denoiser {name!r}: choose among {', '.join(names)}")
        if not 0 <= weight < math.inf:
            raise UsageError(f"the weight of denoiser {name} is {weight:g}, but must be finite and at least 0")
        shares += chosen * weight / chosen.sum()
    if not shares.sum() > 0:
        raise UsageError("the weights of all denoisers are 0: give at least one of R, X and S a weight")
    return shares / shares.sum()


def span_mask(denoiser: Denoiser, tokens: int, rng: np.random.Generator) -> Bool[np.ndarray, " tokens"]:
    """Return which tokens of a text are removed. Kept and removed spans alternate, beginning with a kept span.

    The numbers of removed tokens and of spans are rounded up or down at random, so that their means are those of the
    denoiser. All divisions into this number of spans are equally likely. A text too short for one span of the mean
    length has one shorter span.
    """
    assert denoiser.mean_span is not None
    removed = int(np.clip(_rounded(tokens * denoiser.corrupted, rng), 1, tokens - 1))
    spans = int(np.clip(_rounded(removed / denoiser.mean_span, rng), 1, min(removed, tokens - removed)))
    lengths = np.stack([_division(tokens - removed, spans, rng), _division(removed, spans, rng)], axis=1)
    return np.repeat(np.tile([False, True], spans), lengths.ravel())


def remove_spans(tokens: Tokens, mask: Bool[np.ndarray, " tokens"], first_sentinel: int) -> tuple[Tokens, Tokens]:
    """Return the text with a sentinel in place of each removed span, and the targets.

    >>> inputs, targets = remove_spans(np.array([5, 6, 7, 8]), np.array([False, True, True, False]), 100)
    >>> inputs.tolist(), targets.tolist()
    ([5, 100, 8], [100, 6, 7, 101])
    """
    begins = mask & ~np.concatenate([[False], mask[:-1]])
    sentinels = first_sentinel - 1 + np.cumsum(begins)
    inputs = np.where(begins, sentinels, tokens)[begins | ~mask]
    places = np.flatnonzero(begins)
    before = np.cumsum(mask)[places] - 1  # removed tokens before each span
    targets = np.insert(tokens[mask], before, sentinels[places])
    return inputs, np.append(targets, first_sentinel + len(places))


def _rounded(value: float, rng: np.random.Generator) -> int:
    """Round a value up or down at random, so that the mean of the result is the value."""
    return int(value + rng.random())


def _division(total: int, parts: int, rng: np.random.Generator) -> Sequence[int]:
    """Return the sizes of the parts of a total that is divided at random; each part is at least 1."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts, total]).tolist()
