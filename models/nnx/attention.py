"""Causal self-attention: multi-head attention, with convolutions as in Primer-EZ, and the attention of Primer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import call
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from flax.typing import Dtype

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
from ..functional.checks import (
    check_cache_shape,
    check_heads,
    check_input,
    check_keeps_texts_apart,
    check_length,
    check_not_stacked,
    check_positive,
)
from ..functional.flax_initializers import per_head_init
from ..functional.sharding import Sharding
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .layers import (
    LayerOptions,
    dense_arguments,
    head_projection,
    mesh_metadata,
    output_projection,
    without_kernel,
)

__all__ = ["CausalAttention", "MultiDConvHeadAttention", "MultiHeadAttention", "PrimerAttention"]

Convolve = Callable[[CausalDepthwiseConv, Heads], Heads]


class CausalAttention(nnx.Module):
    """Base class of attentions. A subclass projects into heads; this class adds the cache and the output projection.

    Attributes:
        width: channels of input and output.
        heads: number of heads; each has width / heads channels.
    """

    out: nnx.LinearGeneral
    keeps_texts_apart = True

    def __init__(self, width: int, heads: int, sharding: Sharding | None):
        check_heads(width, heads)
        self.width, self.heads = width, heads
        self.cache = KeyValueCache(sharding)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        segment_ids: SegmentIds | None = None,
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are described in `PrimerEZBlock`.

        Raises:
            ValueError: `x`, the mask or the positions do not fit, or the cache is missing (call `init_cache`).
        """
        check_input(x, self.width)
        if decode:
            self.cache.check_cache_space(x)  # before a convolution's state changes
        start = self.cache.start() if decode else 0
        if segment_ids is not None:
            check_keeps_texts_apart(self.keeps_texts_apart)
            mask = texts_mask(segment_ids, x, self.cache.longest() if decode else x.shape[1], start, mask)
        convolve = partial(call, decode=decode, mask=mask, start=start)
        heads = attend(
            *self._project(x, convolve),
            mask=mask,
            positions=positions,
            cache=self.cache if decode else None,
            attention=self._mix,
        )
        return self.out(heads)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Start a new sequence for `decode`, with a cache for the input shape (batch, longest, width)."""
        check_not_stacked(self.out.kernel, axes=3)
        batch, longest = check_cache_shape(input_shape, self.width)
        shape = (batch, longest, self.heads, self.width // self.heads)
        self.cache.init_cache(shape, dtype)
        for _, child in nnx.iter_children(self):
            if isinstance(child, CausalDepthwiseConv):
                child.init_cache(shape, dtype)

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        """Return queries, keys and values; `convolve` applies a convolution as decoding and mask require."""
        raise NotImplementedError

    def _mix(self, query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads:
        """Return the weighted sums of the values."""
        return softmax_attention(query, key, value, mask=mask)


class MultiHeadAttention(CausalAttention):
    """Causal softmax attention without biases (Vaswani et al. 2017, section 3.2).

    >>> attention = MultiHeadAttention(16, heads=4, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 5, 16)), positions=jnp.arange(5)).shape
    (2, 5, 16)
    """

    def __init__(self, width: int = 512, heads: int = 8, **options: Unpack[LayerOptions]):
        """Initialize the parameters.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: number of heads.
            **options: `LayerOptions`.

        Raises:
            ValueError: the width is not a multiple of the heads.
        """
        super().__init__(width, heads, options.get("sharding"))
        self.query = head_projection(width, heads, **options)
        self.key = head_projection(width, heads, **options)
        self.value = head_projection(width, heads, **options)
        self.out = output_projection(width, heads, **options)

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        return self.query(x), self.key(x), self.value(x)


class MultiDConvHeadAttention(MultiHeadAttention):
    """Multi-head attention with a causal depthwise convolution after each of the Q, K and V projections.

    The query, key and value of a position also depend on the `kernel_size - 1` earlier positions, where `mask` allows
    the position to read them.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> attention = MultiDConvHeadAttention(16, heads=4, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 5, 16))).shape
    (2, 5, 16)
    """

    def __init__(self, width: int = 512, heads: int = 8, *, kernel_size: int = 3, **options: Unpack[LayerOptions]):
        """Initialize the parameters; the other arguments are those of `MultiHeadAttention`.

        Args:
            kernel_size: positions that a convolution sums, the current one included.
        """
        super().__init__(width, heads, **options)
        self.query_conv = _convolution(width, heads, kernel_size, **options)
        self.key_conv = _convolution(width, heads, kernel_size, **options)
        self.value_conv = _convolution(width, heads, kernel_size, **options)

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        return (
            convolve(self.query_conv, self.query(x)),
            convolve(self.key_conv, self.key(x)),
            convolve(self.value_conv, self.value(x)),
        )


class PrimerAttention(CausalAttention):
    """Attention with queries computed from keys, and a softmax followed by tanh and a scale for each key position.

    Keys and values are projected, convolved and multiplied by -1.12. A query is a projection of the key of its head.
    Scores are not divided by the root of the head width. The learned scales limit the sequence length; a shorter
    sequence uses the first scales.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", appendix A.2.

    >>> attention = PrimerAttention(16, heads=4, length=8, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 8, 16))).shape
    (2, 8, 16)

    Attributes:
        length: longest sequence.
    """

    keeps_texts_apart = False

    def __init__(
        self, width: int = 384, heads: int = 8, *, length: int, kernel_size: int = 3, **options: Unpack[LayerOptions]
    ):
        """Initialize the parameters; the other arguments are those of `MultiDConvHeadAttention`.

        Args:
            length: longest sequence.
        """
        sharding = options.get("sharding")
        super().__init__(width, heads, sharding)
        check_positive(length=length)
        self.length, self.dtype = length, options.get("dtype")
        channels = width // heads
        self.key = head_projection(width, heads, **options)
        self.value = head_projection(width, heads, **options)
        arguments = dense_arguments("heads", None, None, **options)
        arguments["kernel_init"] = per_head_init(arguments["kernel_init"])
        self.query = nnx.Einsum("blhc,hcd->blhd", (heads, channels, channels), **arguments)
        self.out = output_projection(width, heads, **options)
        self.key_conv = _convolution(width, heads, kernel_size, **options)
        self.value_conv = _convolution(width, heads, kernel_size, **options)
        ones = jnp.ones((heads, length), options.get("param_dtype", jnp.float32))
        self.position_scale = nnx.Param(ones, **mesh_metadata(sharding, "heads", None))

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Start a new sequence for `decode`, with a cache not longer than `length`; see `MultiHeadAttention`."""
        check_length(check_cache_shape(input_shape, self.width)[1], self.length)
        super().init_cache(input_shape, dtype)

    def _project(self, x: Hidden, convolve: Convolve) -> tuple[Heads, Heads, Heads]:
        check_length(x.shape[1], self.length)
        key = PRIMER_FACTOR * convolve(self.key_conv, self.key(x))
        value = PRIMER_FACTOR * convolve(self.value_conv, self.value(x))
        return self.query(key), key, value

    def _mix(self, query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads:
        _, scale = promote_dtype((value, self.position_scale[...]), dtype=self.dtype)
        return tanh_softmax_attention(query, key, value, scale=scale, mask=mask)


def _convolution(width: int, heads: int, kernel_size: int, **options: Unpack[LayerOptions]) -> CausalDepthwiseConv:
    axes = mesh_metadata(options.get("sharding"), None, "heads", None)
    features = (heads, width // heads)
    return CausalDepthwiseConv(features, kernel_size, kernel_metadata=axes, **without_kernel(**options))
