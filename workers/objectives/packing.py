"""Packing: several examples in one sequence. Each example is a separate text: its inputs, then its targets.

Segment ids keep the examples separate in attention, convolutions and running sums
(`primitives.causality.packed_texts`). Only targets have a weight in the loss. Padding is a separate text with weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ...models.training_batch import TrainingBatch

__all__ = ["EncodedExample", "fit_example", "pack", "packed_batch"]

OPEN_SEQUENCES = 32
"""Largest number of sequences that examples are still added to. A larger number would hardly reduce the padding."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of an example.

    Attributes:
        tokens: inputs, targets, and the end-of-document token.
        inputs: number of tokens that are inputs, at least 1.
    """

    tokens: Int[np.ndarray, " tokens"]
    inputs: int


def fit_example(inputs: Sequence[int], targets: Sequence[int], end: int, room: int) -> tuple[EncodedExample, int, int]:
    """Return an example of at most `room` tokens, and the numbers of tokens that its inputs and targets lose.

    The end-of-document token is appended to the targets. In an example that is too long, the inputs lose their first
    tokens; at least one is kept. If that is not enough, the targets lose their last tokens. Empty inputs are replaced
    by an end-of-document token, as before each text of a token stream.
    """
    inputs, targets = list(inputs) or [end], [*targets, end]
    kept_targets = targets[: room - 1]
    kept_inputs = inputs[-min(len(inputs), room - len(kept_targets)) :]
    tokens = np.array([*kept_inputs, *kept_targets], np.int32)
    lost = len(inputs) - len(kept_inputs), len(targets) - len(kept_targets)
    return EncodedExample(tokens, len(kept_inputs)), *lost


def pack(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Return sequences of at most `room` tokens, each as the indices of its examples; every example is in one sequence.

    An example is added to the first open sequence with enough room. If there is none, a new sequence is opened. If
    `OPEN_SEQUENCES` are open already, the fullest of them is closed.
    """
    sequences: list[list[int]] = []
    left, open_ones = np.zeros(0, int), np.zeros(0, int)
    for index, size in enumerate(sizes):
        places = np.flatnonzero(left >= size)
        if len(places):
            place = places[0]
        else:
            if len(left) == OPEN_SEQUENCES:
                fullest = left.argmin()
                left, open_ones = np.delete(left, fullest), np.delete(open_ones, fullest)
            left, open_ones = np.append(left, room), np.append(open_ones, len(sequences))
            sequences.append([])
            place = len(left) - 1
        sequences[open_ones[place]].append(index)
        left[place] -= size
    return sequences


def packed_batch(sequences: Sequence[Sequence[EncodedExample]], length: int, prefix: bool) -> TrainingBatch:
    """Return a batch of packed sequences.

    Args:
        sequences: examples of each sequence; a sequence without examples is all padding.
        length: predicted tokens in a sequence.
        prefix: whether the inputs of an example see each other in both directions.
    """
    shape = (len(sequences), length + 1)
    tokens, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    is_input, is_target = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, examples in enumerate(sequences):
        start = 0
        for number, example in enumerate(examples, 1):
            end = start + len(example.tokens)
            tokens[row, start:end] = example.tokens
            segment_ids[row, start:end] = number
            is_input[row, start : start + example.inputs] = True
            is_target[row, start + example.inputs : end] = True
            start = end
    weights = is_target[:, 1:].astype(np.float32)
    return TrainingBatch(tokens, weights, segment_ids, is_input if prefix else None)
