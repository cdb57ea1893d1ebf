"""The matrices of a program: kernels of its CONV_1X1, which multiply the channels of one position.

A kernel inside a branched call has one matrix for each branch, [branches, in, out]. If all branches read the same
input, as the projections of attention heads do, their matrices are treated as one matrix [in, branches * out], which
maps the input to all channels of the concatenated output. If every branch reads a separate input, each branch has a
separate matrix. Both can occur in nested calls: outer branches with separate inputs around inner branches that share an
input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...primitives.graphs.graph import Graph
from ...primitives.graphs.parameters import ParameterSpec, parameter_specs

__all__ = ["Projection", "find_projections"]

OP = "CONV_1X1"


@dataclass(frozen=True, slots=True)
class Projection:
    """The kernel of one CONV_1X1 as a stack of matrices [count, rows, columns].

    Attributes:
        name: name of the kernel among the arrays of a block.
        shape: shape of the kernel: branches, inputs, outputs.
        own_inputs: axes of branches with separate inputs; branches on the other axes share an input.
    """

    name: str
    shape: tuple[int, ...]
    own_inputs: tuple[int, ...]

    @property
    def title(self) -> str:
        """Path in the program: `self_attention.head_projection.conv_1x1`."""
        return self.name.replace(".kernel", "")

    @property
    def matrices(self) -> tuple[int, int, int]:
        """Number of matrices, their rows and their columns."""
        count = math.prod(self.shape[axis] for axis in self.own_inputs)
        return count, self.shape[-2], math.prod(self.shape) // (count * self.shape[-2])

    @property
    def largest_rank(self) -> int:
        """Largest possible rank of the matrices."""
        return min(self.matrices[1:])

    def parameters_at(self, rank: int) -> int:
        """Return the number of scalars at a rank: those of the two factors, or of the kernel if it has fewer."""
        count, rows, columns = self.matrices
        return count * min(rank * (rows + columns), rows * columns)

    def to_matrices(self, kernel: Float[np.ndarray, "*branches inputs outputs"]) -> Float[np.ndarray, "count m n"]:
        """Return the kernel as its matrices."""
        return kernel.transpose(self._order).reshape(self.matrices)

    def from_matrices(self, matrices: Float[np.ndarray, "count m n"]) -> Float[np.ndarray, "*branches inputs outputs"]:
        """Invert `to_matrices`."""
        order = self._order
        return matrices.reshape([self.shape[axis] for axis in order]).transpose(np.argsort(order))

    @property
    def _order(self) -> list[int]:
        """Axes of the kernel: branches with separate inputs, inputs, branches with a shared input, outputs."""
        inputs, outputs = len(self.shape) - 2, len(self.shape) - 1
        shared = [axis for axis in range(inputs) if axis not in self.own_inputs]
        return [*self.own_inputs, inputs, *shared, outputs]


def find_projections(graph: Graph, unit: int, length: int | None = None) -> tuple[Projection, ...]:
    """Return the projections of a program at a size, in canonical order (see `parameter_specs`)."""
    specs = parameter_specs(graph, unit, length)
    return tuple([_projection(graph, spec) for spec in specs if graph.nodes[spec.node].op == OP])


def _projection(graph: Graph, spec: ParameterSpec) -> Projection:
    node = graph.nodes[spec.node]
    operand = graph.nodes[node.inputs[0]].scope
    own = tuple([axis for axis, scope in enumerate(node.scope) if scope in operand])
    return Projection(spec.name, spec.shape, own)
