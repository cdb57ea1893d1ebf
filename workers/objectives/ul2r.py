"""Mixture of denoisers: further training that improves a causal model (UL2R, Tay et al. 2022, arXiv 2210.11399).

A sequence is a mode token, the corrupted text, and the targets. Mode token and corrupted text are a prefix, which is
read in both directions. The targets are predicted one by one, and only they count in the loss. A few tokens of padding
come last. The targets cannot see the padding, because they read earlier tokens only, and its weight is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Integer

from ...models.training_batch import TrainingBatch
from ...primitives.errors import UsageError
from ..data.batches import TrainBatches, validation_batches
from .denoisers import DENOISERS, UL2R_WEIGHTS, Denoiser, denoiser_weights, remove_spans, span_mask
from .special_tokens import SpecialTokens

__all__ = ["Ul2rObjective", "ul2r_objective"]

Tokens = Integer[np.ndarray, " tokens"]

CORRUPTION, HELD_OUT = 0x0C, 0x0D
"""Keys of the random numbers that corrupt training and held-out text."""


@dataclass(frozen=True)
class Ul2rObjective:
    """Mixture of denoisers on windows of a token stream.

    Attributes:
        batches: windows of the training split.
        validation: windows [count, batch, length + 1] of the validation split.
        special: special tokens.
        shares: share of the sequences for each of `DENOISERS`.
        seed: random seed.
    """

    batches: TrainBatches
    validation: np.ndarray
    special: SpecialTokens
    shares: np.ndarray
    seed: int
    name: str = "ul2r"

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special tokens included."""
        return self.special.vocabulary

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about denoisers whose spans do not fit into the sequences."""
        return tuple(
            f"sequences of {self.validation.shape[2] - 1} tokens are too short for spans of {denoiser.mean_span:g} "
            f"tokens at {denoiser.corrupted:.0%} removed: denoiser {denoiser.name} removes one span of "
            f"{tokens * denoiser.corrupted:.0f} tokens"
            for denoiser, tokens in self._text_tokens.items()
            if denoiser.mean_span is not None and tokens * denoiser.corrupted < denoiser.mean_span - 0.5
        )

    def batch_at(self, step: int) -> TrainingBatch:
        """Return the batch of a step, counted from 0."""
        return self._corrupted(self.batches.batch_at(step), np.random.default_rng([self.seed, step, CORRUPTION]))

    def held_out(self) -> list[TrainingBatch]:
        """Return corrupted windows of the validation split, the same for every seed."""
        return [
            self._corrupted(windows, np.random.default_rng([0, index, HELD_OUT]))
            for index, windows in enumerate(self.validation)
        ]

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the windows of the training split after `step` steps."""
        return self.batches.epochs_seen(step)

    @cached_property
    def _text_tokens(self) -> dict[Denoiser, int]:
        """Tokens of text in a sequence of each denoiser that is used."""
        used = [denoiser for denoiser, share in zip(DENOISERS, self.shares, strict=True) if share]
        return {denoiser: denoiser.text_tokens(self.validation.shape[2]) for denoiser in used}

    def _corrupted(self, windows: np.ndarray, rng: np.random.Generator) -> TrainingBatch:
        tokens = np.zeros(windows.shape, np.int32)
        inputs_end, end = (np.empty((len(windows), 1), np.int32) for _ in range(2))
        for row, window in enumerate(windows):
            inputs, targets = self._denoised(window, DENOISERS[rng.choice(len(DENOISERS), p=self.shares)], rng)
            inputs_end[row] = len(inputs)
            end[row] = len(inputs) + len(targets)
            tokens[row, : end[row, 0]] = np.concatenate([inputs, targets])
        places = np.arange(windows.shape[1])[None]
        predicts_target = (places >= inputs_end - 1) & (places < end - 1)
        return TrainingBatch(tokens, predicts_target[:, :-1].astype(np.float32), prefix=places < inputs_end)

    def _denoised(self, window: Tokens, denoiser: Denoiser, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Return the prefix and the targets, made from a part of the window at a random place."""
        size = self._text_tokens[denoiser]
        start = rng.integers(len(window) - size + 1)
        text = window[start : start + size]
        if denoiser.mean_span is None:
            split = rng.integers(1, size)
            inputs, targets = text[:split], text[split:]
        else:
            inputs, targets = remove_spans(text, span_mask(denoiser, size, rng), self.special.first_sentinel)
        return np.insert(inputs, 0, self.special.mode(denoiser.mode)), targets


def ul2r_objective(
    train: Tokens,
    validation: Tokens,
    vocabulary: int,
    *,
    batch: int,
    length: int,
    seed: int,
    held_out_batches: int,
    weights: Mapping[str, float] = UL2R_WEIGHTS,
) -> Ul2rObjective:
    """Return the mixture of denoisers on a dataset.

    Args:
        train: token ids of the training split.
        validation: token ids of the validation split.
        vocabulary: number of token ids of the text; the ids of special tokens follow.
        batch: sequences in a batch.
        length: predicted tokens in a sequence.
        seed: random seed, not negative.
        held_out_batches: number of held-out batches.
        weights: weights of modes or denoisers (see `denoiser_weights`).

    Raises:
        UsageError: a split is shorter than one sequence, the sequences are too short, or the weights are wrong.
    """
    if length < 8:
        raise UsageError(f"model.length is {length}, but the mixture of denoisers needs at least 8")
    sentinels = 1 + max(denoiser.most_spans(denoiser.text_tokens(length + 1)) for denoiser in DENOISERS)
    return Ul2rObjective(
        TrainBatches(train, batch, length, seed),
        validation_batches(validation, batch, length, held_out_batches),
        SpecialTokens(vocabulary, sentinels),
        denoiser_weights(weights),
        seed,
    )
