"""An ordinary decoder-only language model of Flax's own modules, for comparison with compiled programs.

Pre-norm blocks of causal attention and a ReLU feed forward, learned positions, tied embedding, no dropout: the model of
the library's TRANSFORMER, without its sinusoids.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from primer_search.models.config import ModelConfig

__all__ = ["PlainDecoder"]


class PlainDecoder(nnx.Module):
    """Logits `[batch, length, vocabulary]` of tokens `[batch, length]`."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        self.positions = nnx.Embed(config.length, config.width, rngs=rngs)
        self.blocks = nnx.List([PlainBlock(config, rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocabulary"]:
        """Return the logits of the next tokens."""
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.embedding.attend(self.norm(x))


class PlainBlock(nnx.Module):
    """Decoder block, `[batch, length, width] -> [batch, length, width]`."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width = config.width
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(config.heads, width, use_bias=False, decode=False, rngs=rngs)
        self.feed_forward_norm = nnx.LayerNorm(width, rngs=rngs)
        self.hidden = nnx.Linear(width, 4 * width, rngs=rngs)
        self.out = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "batch length width"], mask: Array) -> Float[Array, "batch length width"]:
        """Return the block's output."""
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.out(nnx.relu(self.hidden(self.feed_forward_norm(x))))
