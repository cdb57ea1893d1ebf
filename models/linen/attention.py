"""Causal self-attention: multi-head attention, with convolutions as in Primer-EZ, and the attention of Primer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import call

from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from ..functional.attention import (
    PRIMER_FACTOR,
    Heads,
    Hidden,
    Mask,
    Positions,
    SegmentIds,
    attend,
    softmax_attention,
    tanh_softmax_attention,
    texts_mask,
)
from ..functional.checks import check_heads, check_keeps_texts_apart, check_length
from ..functional.flax_initializers import depthwise_init, per_head_init
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .layers import LayerModule, check_width, dense_fields, head_projection, output_projection, with_mesh_axes

__all__ = ["CausalAttention", "MultiDConvHeadAttention", "MultiHeadAttention", "PrimerAttention"]

Convolve = Callable[[CausalDepthwiseConv, Heads], Heads]


class CausalAttention(LayerModule):
    """Base class of attentions. A subclass projects into heads; this class adds the cache and the output projection.

    Attributes:
        heads: number of heads, a divisor of the width.
    """

    heads: int = 8

    keeps_texts_apart = True

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        segment_ids: SegmentIds | None = None,
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are described in `PrimerEZBlock`.

        Raises:
            ValueError: `x`, the mask or the positions do not fit, or the cache to decode with is missing.
        """
        check_width(self, x, "key", "kernel")
        width = x.shape[-1]
        check_heads(width, self.heads)
        cache = KeyValueCache(self.sharding, name="cache") if decode else None
        start = cache.start() if cache else 0
        if segment_ids is not None:
            check_keeps_texts_apart(self.keeps_texts_apart)
            mask = texts_mask(segment_ids, x, cache.longest(x) if cache else x.shape[1], start, mask)
        convolve = partial(call, decode=decode, mask=mask, start=start)
        heads = attend(
            *self._project(x, convolve),
            mask=mask,
            positions=positions,
            cache=cache,
            attention=self._mix,
        )
        return output_projection(self, width, self.heads, name="out")(heads)

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        """Return queries, keys and values; `convolve` applies a convolution as decoding and mask require."""
        raise NotImplementedError

    def _mix(self, query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads:
        """Return the weighted sums of the values."""
        return softmax_attention(query, key, value, mask=mask)


class MultiHeadAttention(CausalAttention):
    """Causal softmax attention without biases (Vaswani et al. 2017, section 3.2).

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((2, 5, 16))
    >>> y, variables = MultiHeadAttention(heads=4).init_with_output(jax.random.key(0), x, positions=jnp.arange(5))
    >>> y.shape
    (2, 5, 16)
    """

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        project = partial(head_projection, self, x.shape[-1], self.heads)
        return project(name="query")(x), project(name="key")(x), project(name="value")(x)


class MultiDConvHeadAttention(CausalAttention):
    """Multi-head attention with a causal depthwise convolution after each of the Q, K and V projections.

    The query, key and value of a position also depend on the `kernel_size - 1` earlier positions, where `mask` allows
    the position to read them.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((2, 5, 16))
    >>> y, variables = MultiDConvHeadAttention(heads=4).init_with_output(jax.random.key(0), x)
    >>> y.shape
    (2, 5, 16)

    Attributes:
        kernel_size: positions that a convolution sums, the current one included.
    """

    kernel_size: int = 3

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        project = partial(head_projection, self, x.shape[-1], self.heads)
        convolution = partial(_convolution, self, self.kernel_size)
        return (
            convolve(convolution(name="query_conv"), project(name="query")(x)),
            convolve(convolution(name="key_conv"), project(name="key")(x)),
            convolve(convolution(name="value_conv"), project(name="value")(x)),
        )


class PrimerAttention(CausalAttention, kw_only=True):
    """Attention with queries computed from keys, and a softmax followed by tanh and a scale for each key position.

    Keys and values are projected, convolved and multiplied by -1.12. A query is a projection of the key of its head.
    Scores are not divided by the root of the head width. The learned scales limit the sequence length; a shorter
    sequence uses the first scales.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", appendix A.2.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((2, 8, 16))
    >>> y, variables = PrimerAttention(heads=4, length=8).init_with_output(jax.random.key(0), x)
    >>> y.shape
    (2, 8, 16)

    Attributes:
        length: longest sequence.
        kernel_size: positions that a convolution sums, the current one included.
    """

    length: int
    kernel_size: int = 3

    keeps_texts_apart = False

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        check_length(x.shape[1], self.length)
        width = x.shape[-1]
        project = partial(head_projection, self, width, self.heads)
        convolution = partial(_convolution, self, self.kernel_size)
        key = PRIMER_FACTOR * convolve(convolution(name="key_conv"), project(name="key")(x))
        value = PRIMER_FACTOR * convolve(convolution(name="value_conv"), project(name="value")(x))
        shape = (self.heads, width // self.heads, width // self.heads)
        fields = dense_fields(self, "heads", None, None, kernel_init=per_head_init(self.kernel_init))
        query = nn.Einsum(shape, "blhc,hcd->blhd", use_bias=False, **fields, name="query")
        return query(key), key, value

    def _mix(self, query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads:
        ones = with_mesh_axes(nn.initializers.ones, self.sharding, "heads", None)
        scale = self.param("position_scale", ones, (self.heads, self.length), self.param_dtype)
        _, scale = promote_dtype(value, scale, dtype=self.dtype)
        return tanh_softmax_attention(query, key, value, scale=scale, mask=mask)


def _convolution(module: LayerModule, kernel_size: int, name: str) -> CausalDepthwiseConv:
    return CausalDepthwiseConv(
        kernel_size,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        kernel_init=with_mesh_axes(depthwise_init, module.sharding, None, "heads", None),
        name=name,
    )
