"""Reference interpreter of a DNA, one instruction at a time, independent of the canonical form.

Nothing is inlined, simplified, merged, batched or shared with the package: every branch is a turn of a loop, every
convolution a loop over positions, and the arithmetic of the primitives is written down a second time. Only the
parameters come from the canonical graph, found by the instruction's place in the program (`Node.path`) and the branch
it runs in. Parameters that the canonical form dropped, because no output depends on them, are drawn at random: if
one mattered after all, the results differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.programs.program import DNA, Instruction

__all__ = ["LiteralInterpreter", "Undecided"]

Path = tuple[int | str, ...]


class Undecided(Exception):
    """The program alone does not say what happens.

    Which operand is resized is known only from the canonical graph, and the graph dropped that instruction; or the
    branches of a convolution have no whole number of channels each, only all together.
    """


@dataclass(frozen=True)
class Thing:
    """An array `[batch, length, size]`; what its last axis is: `features`, `keys` or `one`."""

    array: np.ndarray
    axis: str


Lazy = Callable[[], Thing]


def _guarded_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    magnitude = np.maximum(np.abs(y), 1e-6)
    return x / np.where(y < 0, -magnitude, magnitude)


def _reciprocal(x: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    result[x != 0] = 1.0 / x[x != 0]
    return result


def _last(function: Callable[..., np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: function(x, axis=-1)[..., None]


ELEMENTWISE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ABS_ROOT": lambda x: np.abs(x) ** 0.5,
    "SQUARE": lambda x: x * x,
    "EXP": np.exp,
    "LOG": lambda x: np.log(np.clip(np.abs(x), 1e-6, None)),
    "ABS": np.abs,
    "RECIP": _reciprocal,
    "SIGN": np.sign,
    "COS": np.cos,
    "SIN": np.sin,
    "TANH": np.tanh,
    "SIGMOID": lambda x: 1.0 / (1.0 + np.exp(-x)),
}
WITH_CONSTANT: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "C_MUL": lambda x, c: c * x,
    "MAX": lambda x, c: np.where(x > c, x, np.where(np.isnan(x), x, c)),
    "MIN": lambda x, c: np.where(x < c, x, np.where(np.isnan(x), x, c)),
}
REDUCTIONS = {
    "RED_MEAN": _last(np.mean), "RED_SUM": _last(np.sum), "RED_MIN": _last(np.min), "RED_MAX": _last(np.max),
    "RED_PROD": _last(np.prod),
}  # fmt: skip
COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ADD": lambda x, y: x + y,
    "DIFFERENCE": lambda x, y: x - y,
    "MULTIPLY": lambda x, y: x * y,
    "DIVIDE": _guarded_divide,
}


class LiteralInterpreter:
    """Runs one DNA with the parameters of its canonical graph.

    Args:
        dna: a program the package accepts.
        graph: its canonical graph, asked for parameters only.
        parameters: arrays of each node of the graph.
        unit: channels in a unit of width.
        rng: draws what the graph dropped.
    """

    def __init__(
        self,
        dna: DNA,
        graph: Graph,
        parameters: Sequence[dict[str, np.ndarray]],
        unit: int,
        rng: np.random.Generator,
    ):
        self.dna = dna
        self.unit = unit
        self.rng = rng
        self.learned = {node.path: arrays for node, arrays in zip(graph.nodes, parameters, strict=True) if arrays}
        self.drawn: dict[tuple[Path, tuple[int, ...], str], np.ndarray] = {}

    def run(self, x: np.ndarray) -> np.ndarray:
        """The block's output for `x` [batch, length, 8 units]."""
        block_input = Thing(np.asarray(x, np.float64), "features")
        with np.errstate(all="ignore"):
            output = self._subprogram(0, lambda: block_input, lambda: block_input, (), (), 1)
            if output.axis != "features" or output.array.shape[2] != 8 * self.unit:
                output = self._dense(output, 8 * self.unit, ("output",), ())
        return output.array

    def _subprogram(self, index: int, h0: Lazy, h1: Lazy, path: Path, branch: tuple[int, ...], divisor: int) -> Thing:
        """The last value of a subprogram; an instruction runs when something asks for its value, once."""
        instructions = self.dna.subprograms[index].instructions
        values: dict[int, Thing] = {}

        def value(k: int) -> Thing:
            if k < 2:
                return (h0, h1)[k]()
            if k not in values:
                values[k] = self._instruction(instructions[k - 2], value, (*path, k - 2), branch, divisor)
            return values[k]

        return value(len(instructions) + 1)

    def _instruction(
        self, step: Instruction, value: Callable[[int], Thing], path: Path, branch: tuple[int, ...], divisor: int
    ) -> Thing:
        if step.branches == 1:
            return self._once(step, value, path, branch, divisor, None)
        inside = divisor * (1 if step.callee is None else step.branches)
        results = [self._once(step, value, path, branch, inside, number) for number in range(step.branches)]
        assert all(result.axis == "features" for result in results)
        return Thing(np.concatenate([result.array for result in results], axis=2), "features")

    def _once(
        self,
        step: Instruction,
        value: Callable[[int], Thing],
        path: Path,
        branch: tuple[int, ...],
        divisor: int,
        number: int | None,
    ) -> Thing:
        """One branch (`number`; None where there is but one) of an instruction."""
        if step.callee is not None:
            inner = branch if number is None else (*branch, number)
            h0, h1 = (lambda: value(step.in1)), (lambda: value(step.in2))
            return self._subprogram(step.callee, h0, h1, path, inner, divisor)
        if step.op.startswith("CONV_"):
            width = self._channels(self.dna.dimensions[step.dimension], divisor)
            wide = None if number is None else (number, step.branches)
            kernel = int(step.op[5:-2])
            return self._convolution(value(step.in1), width, kernel, path, branch, wide)
        branch = branch if number is None else (*branch, number)
        return self._primitive(step, value, path, branch)

    def _channels(self, dimension: int, divisor: int) -> int:
        width = Fraction(dimension * self.unit, divisor)
        if width.denominator != 1:
            raise Undecided("one branch of a wider convolution is no whole number of channels")
        return int(width)

    def _primitive(
        self, step: Instruction, value: Callable[[int], Thing], path: Path, branch: tuple[int, ...]
    ) -> Thing:
        x = value(step.in1)
        if step.op in ELEMENTWISE:
            return Thing(ELEMENTWISE[step.op](x.array), x.axis)
        if step.op in WITH_CONSTANT:
            return Thing(WITH_CONSTANT[step.op](x.array, self.dna.constants[step.constant]), x.axis)
        if step.op in REDUCTIONS:
            return Thing(REDUCTIONS[step.op](x.array), "one")
        if step.op == "MASK":
            return Thing(np.tril(x.array), x.axis) if x.axis == "keys" else x
        if step.op in ("CUM_SUM", "CUM_PROD"):
            return Thing(_running(x.array, step.op == "CUM_SUM"), x.axis)
        if step.op == "SCALE":
            return Thing(x.array * self._parameter(path, branch, "scale", (x.array.shape[2],)), x.axis)
        if step.op == "SHIFT":
            return Thing(x.array + self._parameter(path, branch, "bias", (x.array.shape[2],)), x.axis)
        if step.op.startswith("DCONV_"):
            return self._depthwise(x, int(step.op[6:-2]), path, branch)
        return self._pair(step.op, x, value(step.in2), path, branch)

    def _pair(self, op: str, x: Thing, y: Thing, path: Path, branch: tuple[int, ...]) -> Thing:
        if op == "MAT_MUL":
            assert x.axis == "keys"
            return Thing(np.einsum("bij,bjk->bik", x.array, y.array), y.axis)
        scalars = (x.axis == "one", y.axis == "one")
        same = x.axis == y.axis and x.array.shape == y.array.shape
        if op == "T_MAT_MUL":
            assert "keys" not in (x.axis, y.axis)
            if not same:
                x, y = self._resized(x, y, scalars, path, branch)
            return Thing(np.einsum("bik,bjk->bij", x.array, y.array), "keys")
        if op == "LEAST_SQUARES" and not same:
            x, y = self._resized(x, y, scalars, path, branch)
        if op == "LEAST_SQUARES":
            return Thing(self._least_squares(x.array, y.array, path, branch), x.axis)
        if not same and not any(scalars):
            assert x.axis == y.axis == "features"
            x, y = self._resized(x, y, scalars, path, branch)
        return Thing(COMBINATIONS[op](x.array, y.array), y.axis if x.axis == "one" else x.axis)

    def _least_squares(self, x: np.ndarray, y: np.ndarray, path: Path, branch: tuple[int, ...]) -> np.ndarray:
        """The solution of the system of each position, whose matrix grows from one to the next."""
        ridge = np.diag(np.log1p(np.exp(self._parameter(path, branch, "ridge", (x.shape[2],)))) + 0.25)
        result = np.zeros_like(x)
        for sequence in range(x.shape[0]):
            matrix = ridge
            for position in range(x.shape[1]):
                key = y[sequence, position]
                matrix = matrix + key[:, None] * key[None, :]
                result[sequence, position] = np.linalg.inv(matrix) @ x[sequence, position]
        return result

    def _resized(
        self, x: Thing, y: Thing, scalars: tuple[bool, bool], path: Path, branch: tuple[int, ...]
    ) -> tuple[Thing, Thing]:
        """Both operands at one width, by a learned dense layer on the one that the canonical graph chose."""
        first = (*path, "in1") in self.learned or scalars[0]
        second = (*path, "in2") in self.learned or scalars[1]
        if first == second:
            raise Undecided("which operand is resized")
        if first:
            return self._dense(x, y.array.shape[2], (*path, "in1"), branch), y
        return x, self._dense(y, x.array.shape[2], (*path, "in2"), branch)

    def _dense(self, x: Thing, width: int, path: Path, branch: tuple[int, ...]) -> Thing:
        return self._convolution(x, width, 1, path, branch, None)

    def _convolution(
        self,
        x: Thing,
        width: int,
        kernel: int,
        path: Path,
        branch: tuple[int, ...],
        wide: tuple[int, int] | None,
    ) -> Thing:
        """Branch `wide[0]` of `wide[1]` owns that slice of the output channels of one wide kernel."""
        number, branches = wide or (0, 1)
        size = x.array.shape[2]
        shape = (size, width * branches) if kernel == 1 else (kernel, size, width * branches)
        taps = self._parameter(path, branch, "kernel", shape).reshape(kernel, size, width * branches)
        taps = taps[:, :, number * width : (number + 1) * width]
        result = np.zeros((*x.array.shape[:2], width))
        for position in range(x.array.shape[1]):
            for tap in range(kernel):
                source = position - (kernel - 1 - tap)
                if source >= 0:
                    result[:, position] += x.array[:, source] @ taps[tap]
        return Thing(result, "features")

    def _depthwise(self, x: Thing, kernel: int, path: Path, branch: tuple[int, ...]) -> Thing:
        taps = self._parameter(path, branch, "kernel", (kernel, x.array.shape[2]))
        result = np.zeros_like(x.array)
        for position in range(x.array.shape[1]):
            for ago in range(min(kernel, position + 1)):
                result[:, position] += x.array[:, position - ago] * taps[kernel - 1 - ago]
        return Thing(result, x.axis)

    def _parameter(self, path: Path, branch: tuple[int, ...], key: str, shape: tuple[int, ...]) -> np.ndarray:
        if path in self.learned:
            array = self.learned[path][key][branch]
            assert array.shape == shape, f"{path}: the graph has {array.shape}, the program reads {shape}"
            return array
        place = (path, branch, key)
        if place not in self.drawn:
            self.drawn[place] = self.rng.standard_normal(shape)
        return self.drawn[place]


def _running(x: np.ndarray, add: bool) -> np.ndarray:
    rows = [x[:, 0]]
    for position in range(1, x.shape[1]):
        rows.append(rows[-1] + x[:, position] if add else rows[-1] * x[:, position])
    return np.stack(rows, axis=1)
