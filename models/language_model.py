"""Decoder-only language model around a stack of blocks of one kind: tied embedding, positions, final norm.

Embedding, positions, head and final norm are not part of the searched program (Primer, section 2). Positions are fixed
sinusoids (Vaswani et al. 2017, section 3.5), so that a model reads sequences of any length. The paper does not say
which positions it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..primitives.causality.packed_texts import number_texts
from ..primitives.errors import UsageError
from ..primitives.graphs.graph import Graph
from .block import compile_block
from .config import ModelConfig
from .decoding import Cache, nan_past_end
from .training_batch import Prediction, TrainingBatch

__all__ = ["PROBE_LOGITS", "BlockLike", "LanguageModel", "language_model", "negative_log_likelihood"]

PROBE_LOGITS = 4
"""Number of tokens whose logits probes compare. One would not do: a change may leave a single logit unchanged."""

ModelParameters = dict[str, Any]
BlockLike = Any
"""Object with `init(rng)` and `draw(rng) -> parameters`, and `apply(parameters, x) -> y`.

Decoding also needs `init_cache(batch, length, dtype)` and `decode(parameters, cache, x) -> (y, cache)`.
"""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Pure functions of a language model whose blocks are `block`.

    Attributes:
        config: shape of the model.
        block: functions of one block.
        rematerialize: whether the backward pass recomputes the activations inside a block instead of storing them.
    """

    config: ModelConfig
    block: BlockLike
    rematerialize: bool = False

    def init(self, rng: np.random.Generator) -> ModelParameters:
        """Return initial parameters, float32, drawn by NumPy.

        `embedding` is [vocabulary, width]; each array of `blocks` has a leading axis of layers; `final_norm` has a
        scale and a bias.
        """
        norm = {"scale": np.ones(self.config.width, np.float32), "bias": np.zeros(self.config.width, np.float32)}
        return self._parameters(rng, self.block.init, norm)

    def draw(self, rng: np.random.Generator) -> ModelParameters:
        """Return random parameters for probes, of the same shapes, none of them 0 or 1."""
        norm = {key: rng.uniform(0.5, 1.5, self.config.width).astype(np.float32) for key in ("scale", "bias")}
        return self._parameters(rng, self.block.draw, norm)

    def _parameters(self, rng: np.random.Generator, layer: Any, norm: dict[str, np.ndarray]) -> ModelParameters:
        shape = (self.config.vocabulary, self.config.width)
        embedding = rng.standard_normal(shape) / np.sqrt(self.config.width)
        layers = [layer(rng) for _ in range(self.config.layers)]
        return {
            "embedding": embedding.astype(np.float32),
            "blocks": {name: np.stack([layer[name] for layer in layers]) for name in layers[0]},
            "final_norm": norm,
        }

    def logits(
        self,
        parameters: ModelParameters,
        tokens: Int[Array, "batch length"],
        segment_ids: Int[Array, "batch length"] | None = None,
        prefix: Bool[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch length vocabulary"]:
        """Return next-token logits, float32.

        Args:
            parameters: parameters of the model.
            tokens: token ids.
            segment_ids: equal for neighbouring positions of one text; each text gets the same logits as alone in a
                sequence. None: one text per sequence.
            prefix: true for the first positions of a text, which see each other in both directions; None: no prefix.

        Raises:
            UsageError: the block cannot keep texts apart, or depends on the sequence length.
        """
        return self._forward(parameters, tokens, segment_ids, prefix)[0]

    def _forward(
        self,
        parameters: ModelParameters,
        tokens: Array,
        segment_ids: Array | None = None,
        prefix: Array | None = None,
        stream: bool = False,
    ) -> tuple[Array, Array | None]:
        """Return the logits, and the residual stream if `stream` is true, else None."""
        positions = None if segment_ids is None else text_positions(segment_ids, self.config.width)
        x = self.embed(parameters, tokens, positions)
        x, layers = self._stack(parameters["blocks"], x, stream, segment_ids=segment_ids, prefix=prefix)
        return self.head(parameters, x), layers

    def init_cache(self, batch: int, length: int) -> Cache:
        """Return an empty cache for `decode`, a plain pytree with room for `length` tokens of `batch` sequences.

        `position` is the number of decoded tokens. `blocks` are the caches of the layers: stacked if the layers are
        scanned, else in a tuple, so that a decoding step copies none of them.

        Raises:
            InvalidProgramError: the block is not proved to be causal.
            UsageError: the batch or the length is below 1, or the block is tied to another length.
        """
        dtype = jnp.dtype(self.config.precision)
        blocks = tuple(self.block.init_cache(batch, length, dtype) for _ in range(self.config.layers))
        return {
            "position": jnp.zeros((), jnp.int32),
            "sinusoids": sinusoids(length, self.config.width),
            "blocks": jax.tree.map(lambda *layers: jnp.stack(layers), *blocks) if self.config.scanned else blocks,
        }

    def decode(
        self,
        parameters: ModelParameters,
        cache: Cache,
        tokens: Int[Array, "batch new"],
        prefix: Bool[Array, "batch known"] | None = None,
    ) -> tuple[Float[Array, "batch new vocabulary"], Cache]:
        """Return the logits after the next tokens, one or more (a prompt in one call), and the updated cache.

        The logits equal those of `logits` on the whole sequence. Past the end of the cache they are NaN. `prefix`
        begins at the first token of the sequence in every call; all tokens of a prefix must be new in the same call.

        Raises:
            UsageError: there are more new tokens than the whole cache has room for, the batch size differs, or the
                block cannot see a prefix.
        """
        if tokens.ndim != 2:
            raise UsageError(f"tokens have shape {list(tokens.shape)}, but must be [batch, new]")
        table, position, new = cache["sinusoids"], cache["position"], tokens.shape[1]
        if new > table.shape[0]:
            raise UsageError(
                f"tokens have {new} positions, but the cache has room for {table.shape[0]}; make a longer cache"
            )
        x = self.embed(parameters, tokens, jax.lax.dynamic_slice_in_dim(table, position, new))
        x, blocks = self._decode_stack(parameters["blocks"], cache["blocks"], x, prefix)
        logits = self.head(parameters, nan_past_end(x, position, table.shape[0]))
        return logits, {"position": position + new, "sinusoids": table, "blocks": blocks}

    def token_losses(
        self, parameters: ModelParameters, tokens: Int[Array, "batch length+1"]
    ) -> Float[Array, "batch length"]:
        """Return the negative log-likelihood of each next token, in nats."""
        return self.losses_and_probe_logits(parameters, tokens)[0]

    def losses(self, parameters: ModelParameters, batch: TrainingBatch) -> Float[Array, "batch length"]:
        """Return the loss of each predicted token of a batch, in nats, without its weights (see `mean_loss`).

        Raises:
            UsageError: the block cannot keep the texts of the batch apart, or cannot see its prefix.
        """
        return self.predict(parameters, batch).losses

    def predict(self, parameters: ModelParameters, batch: TrainingBatch, stream: bool = False) -> Prediction:
        """Return the losses and probe logits of a batch, and on request the residual stream.

        Args:
            parameters: parameters of the model.
            batch: batch of any objective.
            stream: whether to return the residual stream, which is otherwise not stored.

        Raises:
            UsageError: the block cannot keep the texts of the batch apart, or cannot see its prefix.
        """
        tokens, segment_ids, prefix = jax.tree.map(lambda x: x[:, :-1], (batch.tokens, batch.segment_ids, batch.prefix))
        logits, layers = self._forward(parameters, tokens, segment_ids, prefix, stream)
        return Prediction(negative_log_likelihood(logits, batch.tokens[:, 1:]), logits[..., :PROBE_LOGITS], layers)

    def losses_and_probe_logits(
        self, parameters: ModelParameters, tokens: Int[Array, "batch length+1"]
    ) -> tuple[Float[Array, "batch length"], Float[Array, "batch length few"]]:
        """Return token losses in nats, and the logits of the first `PROBE_LOGITS` tokens of the vocabulary.

        Probes compare logits, since the loss of a position also depends on the next token.
        """
        logits = self.logits(parameters, tokens[:, :-1])
        return negative_log_likelihood(logits, tokens[:, 1:]), logits[..., :PROBE_LOGITS]

    def embed(
        self, parameters: ModelParameters, tokens: Array, positions: Array | None = None, scale: Array | None = None
    ) -> Array:
        """Return the first block's input, multiplied by `scale`; `positions` default to sinusoids from position 0."""
        positions = sinusoids(tokens.shape[1], self.config.width) if positions is None else positions
        x = parameters["embedding"][tokens] * float(np.sqrt(self.config.width)) + positions
        return (x if scale is None else x * scale).astype(jnp.dtype(self.config.precision))

    def head(self, parameters: ModelParameters, x: Array) -> Array:
        """Return the logits of the last block's output."""
        embedding = parameters["embedding"].astype(x.dtype)
        return jnp.matmul(layer_norm(x, parameters["final_norm"]), embedding.T, preferred_element_type=jnp.float32)

    def _stack(
        self, blocks: Mapping[str, Array], x: Array, stream: bool = False, **seen: Array | None
    ) -> tuple[Array, Array | None]:
        """Return the last block's output, and with `stream` the first one's input and the output of every block."""
        seen = {name: value for name, value in seen.items() if value is not None}  # some blocks lack these arguments
        apply = partial(self.block.apply, **seen) if seen else self.block.apply
        apply = jax.checkpoint(apply) if self.rematerialize else apply
        if self.config.scanned:
            layers = self.config.layers  # a block without parameters has no arrays to infer this number from

            def step(x: Array, layer: Mapping[str, Array]) -> tuple[Array, Array | None]:
                y = apply(layer, x)
                return y, y if stream else None

            y, after = jax.lax.scan(step, x, blocks, layers)
            return y, None if after is None else jnp.concatenate([x[None], after])
        kept = [x]
        for layer in _layers(blocks, self.config.layers):
            x = apply(layer, x)
            kept += [x] if stream else []
        return x, jnp.stack(kept) if stream else None

    def _decode_stack(
        self, blocks: Mapping[str, Array], caches: Any, x: Array, prefix: Array | None
    ) -> tuple[Array, Any]:
        seen = {} if prefix is None else {"prefix": prefix}  # some blocks lack this argument

        def layer(x: Array, both: tuple[Mapping[str, Array], Cache]) -> tuple[Array, Cache]:
            return self.block.decode(*both, x, **seen)

        if self.config.scanned:
            return jax.lax.scan(layer, x, (blocks, caches), self.config.layers)
        after = []
        for parameters, cache in zip(_layers(blocks, self.config.layers), caches, strict=True):
            x, cache = layer(x, (parameters, cache))
            after.append(cache)
        return x, tuple(after)


def language_model(graph: Graph, config: ModelConfig) -> LanguageModel:
    """Return the language model that stacks a canonical program.

    Raises:
        InvalidProgramError: the program does not fit the configuration.
    """
    return LanguageModel(config, compile_block(graph, config.unit, config.length, config.fused, config.solve_steps))


def negative_log_likelihood(
    logits: Float[Array, "batch length vocabulary"], tokens: Int[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """Return the loss of each token, in nats."""
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def layer_norm(x: Float[Array, "*axes width"], parameters: Mapping[str, Array]) -> Float[Array, "*axes width"]:
    """Return the layer norm of `x`, with epsilon 1e-6, computed in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-6)
    return (normal * parameters["scale"] + parameters["bias"]).astype(x.dtype)


def sinusoids(length: int, width: int) -> Float[Array, "length width"]:
    """Return sinusoids of the first `length` positions: sines in the first half of the channels, then cosines."""
    half = width // 2
    rates = np.exp(-np.log(10_000.0) * np.arange(half) / max(half - 1, 1))
    angles = np.arange(length)[:, None] * rates[None, :]
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1), jnp.float32)


def text_positions(segment_ids: Int[Array, "batch length"], width: int) -> Float[Array, "batch length width"]:
    """Return the sinusoids of each position, counted from the start of its text."""
    texts = number_texts(jnp, segment_ids)
    places = jnp.arange(segment_ids.shape[1])[None]
    begins = jnp.where(jnp.diff(texts, axis=1, prepend=-1) != 0, places, 0)
    return sinusoids(segment_ids.shape[1], width)[places - jax.lax.cummax(begins, axis=1)]


def _layers(blocks: Mapping[str, Array], count: int) -> list[Mapping[str, Array]]:
    """Return the parameters of each layer. The gradient of `split` is a concatenation; indexing would need a sum."""
    parts = {name: jax.lax.split(array, [1] * count) for name, array in blocks.items()}
    return [{name: parts[name][layer][0] for name in blocks} for layer in range(count)]
