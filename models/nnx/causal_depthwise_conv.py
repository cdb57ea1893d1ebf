"""Causal depthwise convolution, with a cache for decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Int

from ..functional.attention import Mask, visible_taps
from ..functional.checks import check_array, check_cached_batch, check_not_stacked, check_positive
from ..functional.depthwise import causal_depthwise
from ..functional.flax_initializers import depthwise_init

__all__ = ["CausalDepthwiseConv"]


class CausalDepthwiseConv(nnx.Module):
    """Weighted sum of each channel's current and `kernel_size - 1` earlier positions, zero-padded at the start.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> conv = CausalDepthwiseConv(2, rngs=nnx.Rngs(0))
    >>> impulse = jnp.zeros((1, 4, 2)).at[0, 0].set(6.0)
    >>> conv(impulse)[0, :, 0].tolist()
    [3.0, 1.0, 1.0, 0.0]

    Attributes:
        kernel: weights [kernel_size, *features]; the current position comes last.
        past: the last `kernel_size - 1` decoded inputs; None before `init_cache`.
    """

    def __init__(
        self,
        features: int | Sequence[int],
        kernel_size: int = 3,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = depthwise_init,
        kernel_metadata: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
    ):
        """Initialize the kernel.

        Args:
            features: number of channels, or the sizes of all axes after the length: `(heads, channels)`.
            kernel_size: positions that are summed, the current one included.
            dtype: dtype of the computation; None: the dtype that Flax infers from the input and the kernel.
            param_dtype: dtype of the kernel.
            kernel_init: initializer of the kernel, [kernel_size, *features].
            kernel_metadata: metadata of the kernel's variable, such as `{"out_sharding": (None, "model")}`.
            rngs: random stream `params`.

        Raises:
            ValueError: a size is below 1.
        """
        self.features = (features,) if isinstance(features, int) else tuple(features)
        check_positive(kernel_size=kernel_size, features=min(self.features, default=0))
        self.kernel_size = kernel_size
        self.dtype = dtype
        shape = (kernel_size, *self.features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype), **(kernel_metadata or {}))
        self.past: nnx.Cache[Array] | None = nnx.data(None)

    def __call__(
        self,
        x: Float[Array, "batch length *features"],
        *,
        decode: bool = False,
        mask: Mask | None = None,
        start: int | Int[Array, ""] = 0,
    ) -> Float[Array, "batch length *features"]:
        """Return the convolved sequence.

        Args:
            x: inputs.
            decode: whether to continue the sequence of the last call with `decode`.
            mask: positions that a position may read; it always reads itself. If the features have several axes, the
                first one is the axis of heads in the mask.
            start: number of positions decoded before; needed only with a mask.

        Raises:
            ValueError: `x` has other axes, the mask does not fit, or the cache is missing (call `init_cache`) or has
                another batch size.
        """
        check_array(x)
        if x.shape[2:] != self.features:
            expected = ", ".join(map(str, ("batch", "length", *self.features)))
            raise ValueError(f"x has shape {list(x.shape)}, but the convolution takes [{expected}]")
        x, kernel = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        visible = None if mask is None else visible_taps(mask, x, self.kernel_size, start)
        if not decode:
            return causal_depthwise(x, kernel, visible=visible)[0]
        if self.past is None:
            raise ValueError("the cache to decode with is missing; call init_cache first")
        check_cached_batch(self.past.shape[0], x.shape[0])
        y, past = causal_depthwise(x, kernel, self.past[...], visible)
        self.past[...] = past.astype(self.past.dtype)
        return y

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Start a new sequence for `decode`; only the batch size of `input_shape` is used."""
        check_not_stacked(self.kernel, axes=1 + len(self.features))
        self.past = nnx.Cache(jnp.zeros((input_shape[0], self.kernel_size - 1, *self.features), dtype))
