"""Any DNA as a Flax NNX module: the block a search found, in a model of one's own.

    >>> from flax import nnx
    >>> import jax.numpy as jnp
    >>> from primer_search import library
    >>> from primer_search.models import DNABlock
    >>> block = DNABlock(library.get("PRIMER_EZ", unit=8), width=64, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 16, 64))).shape
    (2, 16, 64)

The module interprets the canonical program while JAX traces; under `nnx.jit` nothing of that is left. To take a block
along without this package, export its source instead.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..primitives.canonical import build_graph
from ..primitives.errors import UsageError
from ..primitives.program import DNA, MODEL_WIDTH
from .block import compile_block, initial_value

__all__ = ["DNABlock"]

DType = Any


class DNABlock(nnx.Module):
    """One decoder block, `[batch, length, width] -> [batch, length, width]`, causal if its program is.

    Attributes:
        width: channels of input and output.
        length: the only sequence length it takes, None where it takes any.
        parameters: the learned arrays by their readable names, those of the compiled program.
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
        """Compile the program and draw its parameters.

        Args:
            dna: a program; constants are taken as they are (`library.get(name, unit)` fits a query scale to a unit).
            width: channels of input and output, a multiple of 8: one unit is width / 8 channels.
            length: sequence length; needed by programs tied to one, and allows them.
            dtype: what it computes in and returns; None means as the input.
            param_dtype: what parameters are kept in.
            rngs: the stream `params` is drawn from.

        Raises:
            UsageError: the width is no multiple of 8, or the program is tied to a length and none is given.
            InvalidProgramError: the program is invalid, or does not fit the width.
        """
        if width < MODEL_WIDTH or width % MODEL_WIDTH:
            raise UsageError(f"the width of a DNABlock is {width}, but must be a positive multiple of {MODEL_WIDTH}")
        graph = build_graph(dna, length_dependent=length is not None)
        if graph.length_dependent and (length is None or length < 1):
            raise UsageError(
                "this program is tied to one sequence length; give it, as in DNABlock(dna, length=64, ...)"
            )
        self.width = width
        self.length = length if graph.length_dependent else None
        self.dtype = dtype
        self.functions = compile_block(graph, width // MODEL_WIDTH, length)

        def normal(shape: tuple[int, ...]) -> jax.Array:
            return jax.random.normal(rngs.params(), shape, jnp.float32)

        drawn = {spec.name: initial_value(spec, normal, jnp) for spec in self.functions.specs}
        self.parameters = nnx.Dict({name: nnx.Param(value.astype(param_dtype)) for name, value in drawn.items()})

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """The block's output.

        Raises:
            UsageError: `x` has another rank, width, or (where the program is tied to one) length.
        """
        if x.ndim != 3 or x.shape[2] != self.width:
            raise UsageError(f"the block takes [batch, length, {self.width}], not {list(x.shape)}")
        if self.length is not None and x.shape[1] != self.length:
            raise UsageError(f"the program is tied to sequences of {self.length} positions, not {x.shape[1]}")
        parameters = {name: parameter[...] for name, parameter in self.parameters.items()}
        return self.functions.apply(parameters, x if self.dtype is None else x.astype(self.dtype))
