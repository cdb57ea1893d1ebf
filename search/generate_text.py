"""Text that a trained candidate writes: a prompt, and what follows it, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import takewhile

from ..models.checkpoint import Weights
from ..models.generation import Sampling, generate
from ..models.language_model import language_model
from ..primitives.errors import UsageError
from ..workers.data.tokenizer import Tokenizer

__all__ = ["Continuation", "continue_text"]


class Continuation:
    """Iterate over it once for the pieces of text; its figures grow meanwhile.

    Attributes:
        prompt_tokens: what the model is given.
        notes: sentences on what to expect of the text.
    """

    def __init__(self, ids: Iterator[int], tokenizer: Tokenizer, prompt_tokens: int, notes: tuple[str, ...]):
        self.prompt_tokens, self.notes = prompt_tokens, notes
        self._ids, self._tokenizer = ids, tokenizer
        self._times: list[float] = []

    def __iter__(self) -> Iterator[str]:
        return self._tokenizer.pieces(self._timed())

    @property
    def tokens(self) -> int:
        """How many are written so far."""
        return len(self._times)

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the second, the last whose step had to be compiled; None before the third."""
        return (len(self._times) - 2) / (self._times[-1] - self._times[1]) if len(self._times) > 2 else None

    def _timed(self) -> Iterator[int]:
        for token in self._ids:
            self._times.append(time.perf_counter())
            yield token


def continue_text(weights: Weights, prompt: str, tokens: int, sampling: Sampling, seed: int = 0) -> Continuation:
    """Let a trained model continue a text, until so many tokens are written or it ends the document.

    Args:
        weights: of the model.
        prompt: what comes before; a new document begins where it is empty.
        tokens: how many follow at most.
        sampling: how they are drawn.
        seed: of the draws.

    Raises:
        UsageError: the prompt is no text, or too long for a program that is tied to one length.
    """
    tokenizer = Tokenizer.from_json(weights.tokenizer)
    if not prompt.isascii() and prompt.encode("utf-8", "ignore").decode() != prompt:
        raise UsageError("the prompt is no UTF-8 text: write it in the encoding of your terminal")
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_document]
    model = language_model(weights.graph, weights.model)
    drawn = generate(model, weights.parameters, ids, tokens, sampling=sampling, seed=seed, vocabulary=tokenizer.size)
    notes = ()
    if len(ids) + tokens > weights.model.length:
        notes = (f"the model was trained on {weights.model.length} tokens at a time: beyond them it extrapolates",)
    return Continuation(takewhile(lambda token: token != tokenizer.end_of_document, drawn), tokenizer, len(ids), notes)
