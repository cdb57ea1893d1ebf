"""Flax NNX module of any program, such as a block that a search found.

    >>> from flax import nnx
    >>> import jax.numpy as jnp
    >>> from primer_search import library
    >>> from primer_search.models import DNABlock
    >>> block = DNABlock(library.get("PRIMER_EZ", unit=8), width=64, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 16, 64))).shape
    (2, 16, 64)

It decodes in the same way as Flax's attention: call `init_cache` with the shape of the longest input, then pass one or
more positions in each call.

    >>> block.init_cache((2, 16, 64))
    >>> block(jnp.ones((2, 10, 64)), decode=True).shape  # a prompt
    (2, 10, 64)
    >>> block(jnp.ones((2, 1, 64)), decode=True).shape
    (2, 1, 64)

The module interprets the canonical program only while JAX traces it, which costs nothing at run time under `nnx.jit`.
To use a block without this package, export its source instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ...primitives.errors import UsageError
from ...primitives.graphs.canonical import build_graph
from ...primitives.ops.value_types import MODEL_WIDTH
from ...primitives.programs.program import DNA
from ..block import compile_block
from ..decoding import Cache
from ..functional.checks import check_not_stacked
from ..functional.initial_values import initial_value
from ..functional.refuse_float16 import GUARDED_OPS, refuse_float16

__all__ = ["DNABlock"]

DType = Any

_PARTS = ("history", "state")


class DNABlock(nnx.Module):
    """Decoder block, `[batch, length, width] -> [batch, length, width]`, causal if its program is.

    Attributes:
        width: channels of input and output.
        length: the only sequence length of a program that is tied to one length; None: any length.
        parameters: learned arrays by their names in the compiled program.
        cache: decoding cache, as `nnx.Cache` variables; None before `init_cache`.
    """

    def __init__(
        self,
        dna: DNA,
        *,
        width: int,
        length: int | None = None,
        dtype: DType | None = None,
        param_dtype: DType = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Compile the program and initialize its parameters.

        Args:
            dna: program; its constants are used unchanged (`library.get(name, unit)` adapts a query scale to a unit).
            width: channels of input and output, a multiple of 8; one unit has width / 8 channels.
            length: sequence length; a program that is tied to one length is refused without it.
            dtype: dtype of the computation and the output; None: dtype of the input.
            param_dtype: dtype of the parameters.
            rngs: random stream `params`.

        Raises:
            UsageError: the width is not a multiple of 8, or the program is tied to a length and none is given.
            InvalidProgramError: the program is invalid, or does not fit the width.
        """
        if not hasattr(width, "__index__") or width < MODEL_WIDTH or width % MODEL_WIDTH:
            raise UsageError(f"width is {width!r}, but must be a positive multiple of {MODEL_WIDTH}")
        graph = build_graph(dna, length_dependent=length is not None)
        if graph.length_dependent and (length is None or length < 1):
            raise UsageError(
                "length is missing, but the program is tied to one; give it, as in DNABlock(dna, length=64, ...)"
            )
        self.width = width
        self.length = length if graph.length_dependent else None
        self.dtype = dtype
        self.functions = compile_block(graph, width // MODEL_WIDTH, length)

        def normal(shape: tuple[int, ...]) -> jax.Array:
            return jax.random.normal(rngs.params(), shape, jnp.float32)

        drawn = {spec.name: initial_value(spec, normal, jnp) for spec in self.functions.specs}
        self.parameters = nnx.Dict({name: nnx.Param(value.astype(param_dtype)) for name, value in drawn.items()})
        self.cache: nnx.Dict | None = nnx.data(None)

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        *,
        decode: bool = False,
        segment_ids: Int[Array, "batch length"] | None = None,
        mask: Bool[Array, "#batch 1 #queries #keys"] | None = None,
    ) -> Float[Array, "batch length width"]:
        """Return the block's output.

        Args:
            x: whole sequences; with `decode`, their next positions, one or more.
            decode: whether to continue from the cache and update it. Past the end of the cache the output is NaN.
            segment_ids: equal for neighbouring positions of one text. Each text gets the same outputs as alone in a
                sequence. Padding is a separate text. With `decode`, the ids begin at the first position of the sequence
                in every call; positions after their end belong to the last text. None: one text per sequence.
            mask: true where a position may read another, in addition to the causal mask; an alternative to
                `segment_ids`. Attention and convolutions follow it, and a position that may read nothing reads itself.
                With `decode`, its keys begin at the first position of the sequence, and keys after its end are treated
                as its last key. None: no mask.

        Raises:
            UsageError: `x` has another rank, width, or (if the program is tied to one) length; the cache is missing,
                has another batch size, or is shorter than `x`; or the program cannot keep texts apart or follow a mask.
            ValueError: the segment ids or the mask do not fit, both are given, or the program divides or takes
                logarithms in float16.
        """
        x = jnp.asarray(x)
        if x.ndim != 3 or x.shape[2] != self.width:
            raise UsageError(f"x has shape {list(x.shape)}, but must be [batch, length, {self.width}]")
        x = x if self.dtype is None else x.astype(self.dtype)
        if any(node.op in GUARDED_OPS for node in self.functions.graph.nodes):
            refuse_float16(x)
        parameters = {name: parameter[...] for name, parameter in self.parameters.items()}
        if decode:
            return self._decode(parameters, x, segment_ids, mask)
        if self.length is not None and x.shape[1] != self.length:
            raise UsageError(f"x has {x.shape[1]} positions, but the program is tied to length={self.length}")
        return self.functions.apply(parameters, x, segment_ids=segment_ids, mask=mask)

    def init_cache(self, input_shape: Sequence[int], dtype: DType = jnp.float32) -> None:
        """Make an empty cache, or reset the existing one.

        Args:
            input_shape: `(batch, longest, width)`; if the program is tied to one length, `longest` is that length.
            dtype: dtype of the cache.

        Raises:
            InvalidProgramError: the program is not proved to be causal.
            UsageError: the shape has another rank, width, or (if the program is tied to one) length.
            ValueError: the block is a stack that `nnx.vmap` made.
        """
        if len(input_shape) != 3 or input_shape[2] != self.width:
            raise UsageError(f"input_shape is {tuple(input_shape)}, but must be (batch, longest, {self.width})")
        for spec in self.functions.specs[:1]:
            check_not_stacked(self.parameters[spec.name], len(spec.shape))
        batch, longest, _ = input_shape
        empty = self.functions.init_cache(batch, longest, dtype)
        fields = {part: nnx.Dict({key: nnx.Cache(empty[part][key]) for key in empty[part]}) for part in _PARTS}
        self.cache = nnx.Dict({"position": nnx.Cache(empty["position"]), **fields})

    def _decode(self, parameters: dict[str, Array], x: Array, segment_ids: Array | None, mask: Array | None) -> Array:
        if self.cache is None:
            raise UsageError(
                "the cache to decode with is missing; call block.init_cache((batch, longest, width)) first"
            )
        position, parts = self.cache["position"], {part: self.cache[part] for part in _PARTS}
        before: Cache = {part: {key: variable[...] for key, variable in held.items()} for part, held in parts.items()}
        y, after = self.functions.decode(parameters, {"position": position[...], **before}, x, segment_ids, mask=mask)
        position[...] = after["position"]
        for part, held in parts.items():
            for key, variable in held.items():
                variable[...] = after[part][key]
        return y
