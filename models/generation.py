"""Text from a language model, token by token, decoded with a cache: each token costs one position.

    decode the prompt -> sample -> decode what was sampled -> sample -> ...

Sampling is by temperature among the k likeliest tokens (Fan et al. 2018, arXiv 1805.04833); temperature 0 takes the
likeliest. Token i is drawn from (seed, i), so that the same seed gives the same tokens whatever they are read with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..primitives.errors import UsageError
from .language_model import LanguageModel, ModelParameters

__all__ = ["Sampling", "generate"]


PREFILL_CHUNK = 512
"""Positions of a prompt that are taken in at once: the scores of each with all before it are in memory together."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from logits.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: draws among so many of the likeliest; 0 among all.
    """

    temperature: float = 0.8
    top_k: int = 40

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature:g}: give 0, which takes the likeliest token, or more")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}: give 0, which draws among all tokens, or more")

    def draw(self, logits: Float[Array, "batch vocabulary"], key: Array) -> Int[Array, " batch"]:
        """One token for each sequence."""
        if self.temperature == 0.0:
            return jnp.argmax(logits, axis=-1)
        if 0 < self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        return jax.random.categorical(key, logits / self.temperature)


def generate(
    model: LanguageModel,
    parameters: ModelParameters,
    prompt: Sequence[int],
    tokens: int,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Iterator[int]:
    """Continue a prompt.

    Args:
        model, parameters: the trained model.
        prompt: token ids, at least one.
        tokens: how many follow it.
        sampling: how they are drawn.
        seed: of the draws.
        vocabulary: ids from this one on are never drawn; all of the model's may be, if not given.

    Yields:
        Token ids, each as soon as it is drawn.

    Raises:
        UsageError: the prompt is empty, a program tied to one sequence length is to run past it, or memory for so many
            tokens is lacking.
    """
    longest = _longest(model)
    if not prompt:
        raise UsageError("the prompt is empty: begin with a token, such as the end of a document before this one")
    if longest is not None and len(prompt) + tokens > longest:
        raise UsageError(
            f"the program is tied to sequences of {longest} tokens, and the prompt of {len(prompt)} with {tokens} more "
            f"is longer: give a shorter prompt, or ask for at most {max(longest - len(prompt), 0)} tokens"
        )
    return _generate(model, parameters, prompt, tokens, sampling or Sampling(), seed, vocabulary, longest)


def _generate(
    model: LanguageModel,
    parameters: ModelParameters,
    prompt: Sequence[int],
    tokens: int,
    sampling: Sampling,
    seed: int,
    vocabulary: int | None,
    longest: int | None,
) -> Iterator[int]:
    step = jax.jit(partial(_step, model, sampling, vocabulary), donate_argnums=1)
    parameters = jax.device_put(parameters)
    cache = _cache(model, longest or len(prompt) + tokens)
    key, ids = jax.random.key(seed), jnp.asarray(np.array([prompt], np.int32))
    *earlier, new = (ids[:, start : start + PREFILL_CHUNK] for start in range(0, len(prompt), PREFILL_CHUNK))
    for piece in earlier:
        _, cache = step(parameters, cache, piece, key, 0)
    for number in range(tokens):
        new, cache = step(parameters, cache, new, key, number)
        yield int(new[0, 0])


def _cache(model: LanguageModel, positions: int) -> Any:
    try:
        return model.init_cache(1, positions)
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(f"a cache of {positions} positions does not fit into memory: ask for fewer tokens") from error


def _step(
    model: LanguageModel,
    sampling: Sampling,
    vocabulary: int | None,
    parameters: ModelParameters,
    cache: Any,
    new: Int[Array, "1 new"],
    key: Array,
    number: Int[Array, ""] | int,
) -> tuple[Int[Array, "1 1"], Any]:
    """Take in the tokens that are new, and draw the one after them."""
    logits, cache = model.decode(parameters, cache, new)
    drawn = sampling.draw(logits[:, -1, :vocabulary], jax.random.fold_in(key, number))
    return drawn[:, None].astype(jnp.int32), cache


def _longest(model: LanguageModel) -> int | None:
    graph = getattr(model.block, "graph", None)  # a hand-written block has none, and reads any length
    return model.config.length if graph is not None and graph.length_dependent else None
