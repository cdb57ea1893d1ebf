"""Causal depthwise convolution, with a cache for decoding."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Int

from ..functional.attention import Mask, visible_taps
from ..functional.checks import check_array, check_cached_batch, check_positive
from ..functional.depthwise import causal_depthwise
from ..functional.flax_initializers import depthwise_init
from .key_value_cache import cache_exists

__all__ = ["CausalDepthwiseConv"]


class CausalDepthwiseConv(nn.Module):
    """Weighted sum of each channel's current and `kernel_size - 1` earlier positions, zero-padded at the start.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> import jax
    >>> impulse = jnp.zeros((1, 4, 2)).at[0, 0].set(6.0)
    >>> y, variables = CausalDepthwiseConv().init_with_output(jax.random.key(0), impulse)
    >>> y[0, :, 0].tolist()
    [3.0, 1.0, 1.0, 0.0]

    Attributes:
        kernel_size: positions that are summed, the current one included.
        dtype: dtype of the computation; None: the dtype that Flax infers from the input and the kernel.
        param_dtype: dtype of the kernel.
        kernel_init: initializer of the kernel [kernel_size, *features]; the current position comes last.
    """

    kernel_size: int = 3
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = depthwise_init

    def __post_init__(self):
        check_positive(kernel_size=self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length *features"],
        decode: bool = False,
        mask: Mask | None = None,
        start: int | Int[Array, ""] = 0,
    ) -> Float[Array, "batch length *features"]:
        """Return the convolved sequence; the arguments are those of the NNX module of the same name.

        Raises:
            ValueError: the mask does not fit, or the cache to decode with is missing or has another batch size.
        """
        check_array(x)
        kernel = self.param("kernel", self.kernel_init, (self.kernel_size, *x.shape[2:]), self.param_dtype)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        visible = None if mask is None else visible_taps(mask, x, self.kernel_size, start)
        if not decode:
            return causal_depthwise(x, kernel, visible=visible)[0]
        ready = cache_exists(self, "past")
        shape = (x.shape[0], self.kernel_size - 1, *x.shape[2:])
        cached = self.variable("cache", "past", jnp.zeros, shape, x.dtype)
        if not ready:
            return causal_depthwise(x, kernel, visible=visible)[0]
        check_cached_batch(cached.value.shape[0], x.shape[0])
        y, past = causal_depthwise(x, kernel, cached.value, visible)
        cached.value = past.astype(cached.value.dtype)
        return y
