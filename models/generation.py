"""Text generation with a cache, so that only one position is computed for each new token.

    decode the prompt -> sample -> decode the sampled token -> sample -> ...

Each token is sampled with a temperature from the k most probable tokens (Fan et al. 2018, arXiv 1805.04833).
Temperature 0 is greedy. Token i is drawn with a key made from (seed, i), so that the same seed gives the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..primitives.causality.prefix_mask import check_prefix_capable
from ..primitives.errors import UsageError
from .decoding import Cache
from .language_model import LanguageModel, ModelParameters

__all__ = ["Sampling", "generate"]

PREFILL_CHUNK = 512
"""Number of prompt positions that are decoded in one step; their scores are in memory at the same time."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling of a token from logits.

    Attributes:
        temperature: divisor of the logits; 0 is greedy.
        top_k: number of most probable tokens to draw from; 0: all tokens.
    """

    temperature: float = 0.8
    top_k: int = 40

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature:g}, but must be finite and at least 0, which is greedy")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}, but must be at least 0, which draws from all tokens")

    def draw(self, logits: Float[Array, "batch vocabulary"], key: Array) -> Int[Array, " batch"]:
        """Return one token for each sequence."""
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
    prefix: bool = False,
) -> Iterator[int]:
    """Continue a prompt.

    Args:
        model: trained model.
        parameters: parameters of the model.
        prompt: token ids, at least one.
        tokens: number of tokens to generate.
        sampling: settings of the sampling; None: the defaults.
        seed: random seed.
        vocabulary: number of token ids that can be drawn; None: all ids of the model.
        prefix: whether the tokens of the prompt see each other in both directions, for a model that was trained with
            prefixes; otherwise they see earlier tokens only.

    Yields:
        Token ids, each as soon as it is drawn.

    Raises:
        UsageError: the prompt is empty, the text is longer than the one length that a program is tied to, the cache
            does not fit into memory, or the program cannot see a prefix.
    """
    graph = getattr(model.block, "graph", None)  # a hand-written block has no graph, and takes any length
    longest = model.config.length if graph is not None and graph.length_dependent else None
    if not prompt:
        raise UsageError("the prompt is empty; give at least one token, such as the one that ends a document")
    if longest is not None and len(prompt) + tokens > longest:
        raise UsageError(
            f"prompt and new tokens are {len(prompt)} + {tokens}, but the program is tied to {longest} tokens; "
            f"give a shorter prompt, or ask for at most {max(longest - len(prompt), 0)} tokens"
        )
    if prefix and graph is not None:
        check_prefix_capable(graph)
    seen = {"prefix": jnp.ones((1, len(prompt)), bool)} if prefix else {}
    chunk_size = len(prompt) if prefix else PREFILL_CHUNK
    draw = (sampling or Sampling()).draw

    @partial(jax.jit, donate_argnums=1)
    def step(
        parameters: ModelParameters, cache: Cache, new: Int[Array, "1 new"], key: Array, number: Array | int
    ) -> tuple[Int[Array, "1 1"], Cache]:
        """Decode the new tokens, and draw the next one."""
        logits, cache = model.decode(parameters, cache, new, **seen)
        drawn = draw(logits[:, -1, :vocabulary], jax.random.fold_in(key, number))
        return drawn[:, None].astype(jnp.int32), cache

    def continuation() -> Iterator[int]:
        on_device = jax.device_put(parameters)
        cache = _empty_cache(model, longest or len(prompt) + tokens)
        key, ids = jax.random.key(seed), jnp.asarray(np.array([prompt], np.int32))
        *earlier, new = (ids[:, start : start + chunk_size] for start in range(0, len(prompt), chunk_size))
        for chunk in earlier:
            _, cache = step(on_device, cache, chunk, key, 0)
        for number in range(tokens):
            new, cache = step(on_device, cache, new, key, number)
            yield int(new[0, 0])

    return continuation()


def _empty_cache(model: LanguageModel, positions: int) -> Cache:
    try:
        return model.init_cache(1, positions)
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(f"a cache of {positions} positions does not fit into memory; ask for fewer tokens") from error
