"""Text generation with a trained candidate, from a prompt, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import takewhile

from ...models.checkpoint import Weights
from ...models.generation import Sampling, generate
from ...models.language_model import language_model
from ...primitives.errors import UsageError
from ...workers.data.user_tokenizers import AnyTokenizer, read_tokenizer
from ...workers.objectives.special_tokens import SpecialTokens

__all__ = ["Continuation", "continue_text"]


class Continuation:
    """The continuation of a prompt, generated piece by piece during a single iteration.

    Attributes:
        prompt_tokens: number of tokens in the prompt.
        notes: messages to the user about limits of the model.
    """

    def __init__(self, ids: Iterator[int], tokenizer: AnyTokenizer, prompt_tokens: int, notes: tuple[str, ...]):
        self.prompt_tokens, self.notes = prompt_tokens, notes
        self._ids, self._tokenizer = ids, tokenizer
        self._times: list[float] = []

    def __iter__(self) -> Iterator[str]:
        return self._tokenizer.decode_stream(self._timed())

    @property
    def tokens(self) -> int:
        """Number of tokens generated so far."""
        return len(self._times)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the second token, because the first two include compilation; None before the third token."""
        return (len(self._times) - 2) / (self._times[-1] - self._times[1]) if len(self._times) > 2 else None

    def _timed(self) -> Iterator[int]:
        for token in self._ids:
            self._times.append(time.perf_counter())
            yield token


def continue_text(weights: Weights, prompt: str, tokens: int, sampling: Sampling, seed: int = 0) -> Continuation:
    """Return the continuation of a prompt, which ends after `tokens` tokens or at the end of the document.

    A model that was trained with prefixes reads the prompt in both directions. If its last objective was the mixture of
    denoisers (`ul2r`), the token of mode S, which asks for a continuation, is put before the prompt.

    Args:
        weights: weights of the model.
        prompt: text to continue; if empty, the text is a new document.
        tokens: largest number of new tokens.
        sampling: sampling method.
        seed: random seed of the sampling.

    Raises:
        UsageError: the prompt is not UTF-8 text, or too long for a program that depends on the sequence length.
    """
    tokenizer = read_tokenizer(weights.tokenizer)
    if not prompt.isascii() and prompt.encode("utf-8", "ignore").decode() != prompt:
        raise UsageError("the prompt is not UTF-8 text: use the encoding of your terminal")
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_document]
    model = language_model(weights.graph, weights.model)
    new_ids = generate(
        model,
        weights.parameters,
        [*_mode(weights), *ids],
        tokens,
        sampling=sampling,
        seed=seed,
        vocabulary=tokenizer.size,
        prefix=bool(weights.training.get("prefix")),
    )
    notes = ()
    if len(ids) + tokens > weights.model.length:
        notes = (f"the model was trained on sequences of {weights.model.length} tokens and extrapolates beyond them",)
    return Continuation(
        takewhile(lambda token: token != tokenizer.end_of_document, new_ids), tokenizer, len(ids), notes
    )


def _mode(weights: Weights) -> list[int]:
    """Return the tokens to put before the prompt: the token of mode S after the mixture of denoisers, else none."""
    if weights.training.get("objective") != "ul2r":
        return []
    return [SpecialTokens(weights.training["vocabulary"], sentinels=0).mode("S")]
