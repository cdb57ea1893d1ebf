"""Instruction tuning: packed examples of many tasks, with a loss on the targets only (Flan, arXiv 2210.11416).

An epoch of the mixture of tasks (`mixture`) is packed into sequences (`packing`), which are then shuffled. Batches take
the sequences of epoch after epoch. The batch of a step depends on the number of sequences in all earlier epochs. So a
resumed training packs these epochs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...models.training_batch import TrainingBatch
from ...primitives.errors import UsageError
from .examples import Example, held_out_examples, read_examples
from .mixture import TaskMixture
from .packing import EncodedExample, fit_example, pack, packed_batch

__all__ = ["CAP", "ExampleCounts", "InstructObjective", "instruct_objective"]

CAP = 30_000
"""Largest number of examples of a task in an epoch of the mixture, as for the Flan tasks."""

SHUFFLE = 0x5E
"""Key of the random numbers that order packed sequences."""


class TextEncoder(Protocol):
    """The attributes of a tokenizer that instruction tuning uses."""

    end_of_document: int

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts."""
        ...


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """Numbers of examples.

    Attributes:
        training: number of examples to train on.
        held_out: number of examples that training never sees.
        draws: numbers of training examples in an epoch of the mixture, by task.
        inputs_cut: number of examples longer than a sequence; their inputs lost their first tokens.
        targets_cut: number of these whose targets alone are too long; their targets lost their last tokens.
    """

    training: int
    held_out: int
    draws: dict[str, int]
    inputs_cut: int
    targets_cut: int


class InstructObjective:
    """Packed examples, drawn from a mixture of tasks.

    Attributes:
        vocabulary: number of token ids; there are no special tokens.
        counts: numbers of examples.
    """

    name = "instruct"

    def __init__(
        self,
        training: Sequence[EncodedExample],
        held_out: Sequence[EncodedExample],
        mixture: TaskMixture,
        counts: ExampleCounts,
        *,
        vocabulary: int,
        batch: int,
        length: int,
        seed: int,
        held_out_batches: int,
        prefix: bool,
    ):
        self.vocabulary = vocabulary
        self.counts = counts
        self._training, self._held_out = training, held_out
        self._mixture = mixture
        self._batch, self._length, self._seed = batch, length, seed
        self._held_out_batches, self._prefix = held_out_batches, prefix
        self._starts = [0]  # sequences before each epoch
        self._epochs: dict[int, list[np.ndarray]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about examples that are longer than a sequence."""
        counts = self.counts
        every = counts.training + counts.held_out
        notes = []
        if counts.inputs_cut:
            notes.append(
                f"{counts.inputs_cut:,} of {every:,} examples are longer than {self._length + 1} tokens: "
                "their inputs lose their first tokens"
            )
        if counts.targets_cut:
            notes.append(
                f"in {counts.targets_cut:,} of them, the targets alone are too long: they lose their last tokens"
            )
        return tuple(notes)

    def batch_at(self, step: int) -> TrainingBatch:
        """Return the batch of a step, counted from 0."""
        sequences = []
        for position in range(step * self._batch, (step + 1) * self._batch):
            epoch = self._epoch_of(position)
            members = self._sequences(epoch)[position - self._starts[epoch]]
            sequences.append([self._training[index] for index in members])
        return packed_batch(sequences, self._length, self._prefix)

    def held_out(self) -> list[TrainingBatch]:
        """Return packed held-out examples: as many as fit into the batches, the same examples for every seed."""
        packed = pack([len(example.tokens) for example in self._held_out], self._length + 1)
        packed = packed[: self._held_out_batches * self._batch]
        sequences = [[self._held_out[index] for index in members] for members in packed]
        sequences += [[] for _ in range(-len(sequences) % self._batch)]
        return [
            packed_batch(sequences[start : start + self._batch], self._length, self._prefix)
            for start in range(0, len(sequences), self._batch)
        ]

    def epochs_seen(self, step: int) -> float:
        """Return the mean number of passes over the training examples after `step` steps."""
        epoch = self._epoch_of(step * self._batch)
        start, end = self._starts[epoch : epoch + 2]
        mixed = epoch + (step * self._batch - start) / (end - start)
        return mixed * sum(self.counts.draws.values()) / self.counts.training

    def _epoch_of(self, position: int) -> int:
        """Return the epoch of a sequence, given its position in the order of all epochs."""
        while self._starts[-1] <= position:
            self._starts.append(self._starts[-1] + len(self._sequences(len(self._starts) - 1)))
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _sequences(self, epoch: int) -> list[np.ndarray]:
        """Return the sequences of an epoch, each as indices of training examples. The last two epochs are cached."""
        if epoch not in self._epochs:
            drawn = self._mixture.epoch(epoch)
            packed = pack([len(self._training[index].tokens) for index in drawn], self._length + 1)
            order = np.random.default_rng([self._seed, epoch, SHUFFLE]).permutation(len(packed))
            if len(self._epochs) >= 2:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = [drawn[packed[place]] for place in order]
        return self._epochs[epoch]


def instruct_objective(
    paths: Sequence[Path | str],
    tokenizer: TextEncoder,
    vocabulary: int,
    *,
    batch: int,
    length: int,
    seed: int,
    held_out_batches: int,
    cap: int = CAP,
    shares: Mapping[str, float] | None = None,
    prefix: bool = False,
) -> InstructObjective:
    """Return the objective of instruction tuning on files of examples.

    Args:
        paths: files of JSON lines (see `read_examples`).
        tokenizer: tokenizer of the model.
        vocabulary: number of token ids.
        batch: sequences in a batch.
        length: predicted tokens in a sequence.
        seed: random seed, not negative.
        held_out_batches: largest number of held-out batches.
        cap: largest number of examples of a task in an epoch of the mixture.
        shares: relative share of every task; None: proportional to the number of examples, at most the cap.
        prefix: whether the inputs of an example see each other in both directions, as after `ul2r`.

    Raises:
        UsageError: a file cannot be read or has a bad line, there are too few examples, or the cap or shares are wrong.
    """
    if length < 2:
        raise UsageError(f"model.length is {length}, but examples need at least 2")
    examples = read_examples(paths)
    held_out = held_out_examples(examples)
    mixture = TaskMixture([examples[i].task for i in np.flatnonzero(~held_out)], cap, shares, seed)
    encoded, inputs_cut, targets_cut = _encode(examples, tokenizer, length + 1)
    counts = ExampleCounts(int((~held_out).sum()), int(held_out.sum()), mixture.draws, inputs_cut, targets_cut)
    return InstructObjective(
        [encoded[i] for i in np.flatnonzero(~held_out)],
        [encoded[i] for i in np.flatnonzero(held_out)],
        mixture,
        counts,
        vocabulary=vocabulary,
        batch=batch,
        length=length,
        seed=seed,
        held_out_batches=held_out_batches,
        prefix=prefix,
    )


def _encode(examples: Sequence[Example], tokenizer: TextEncoder, room: int) -> tuple[list[EncodedExample], int, int]:
    """Return the token ids of examples, the number that lost any tokens, and the number that lost target tokens."""
    inputs = tokenizer.encode_all([example.inputs for example in examples])
    targets = tokenizer.encode_all([example.targets for example in examples])
    fitted = [fit_example(*both, tokenizer.end_of_document, room) for both in zip(inputs, targets, strict=True)]
    lost = np.array([[inputs_lost > 0, targets_lost > 0] for _, inputs_lost, targets_lost in fitted])
    return [example for example, _, _ in fitted], int(lost.any(axis=1).sum()), int(lost[:, 1].sum())
