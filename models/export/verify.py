"""Verification of exported source: its code and the compiled program are run, and their results must agree.

Both get the same random parameters, none of them 0 or 1, and the same inputs: a sequence, and copies of it with new
random values at later positions. The checks compare outputs, gradients, outputs of packed texts, and outputs of
decoding in pieces. New values at later positions must not change earlier outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...primitives.causality.packed_texts import packing_fault
from ...primitives.errors import WorkFailedError
from ...primitives.graphs.graph import Graph
from ...primitives.ops.op_table import Init
from ..block import BlockFunctions, compile_block
from ..functional.initial_values import initial_value
from .classes import ParameterPlacement
from .exported_module import ExportedFunctions, load_source
from .runtime_source import API

__all__ = ["ExportedSource", "verify_export"]

TOLERANCE = 1e-5
"""Largest difference in float32, relative to the array's largest entry."""

EXACT_TOLERANCE = 1e-9
"""Tolerance in float64. This comparison follows if that in float32 fails, because programs may amplify rounding."""

NEGLIGIBLE = 1e-3
"""Smallest divisor of a difference, as a multiple of 1 (the size of the inputs) and of the largest gradient."""

FAST_COMPILATION = {"xla_backend_optimization_level": 0}
"""Compiler options without optimization: each comparison runs once, so compilation takes most of the time."""

LONGEST_PROBE = 8
"""Longest sequence on which a program is verified, if it does not depend on the sequence length."""


@dataclass(frozen=True, slots=True)
class ExportedSource:
    """Exported file.

    Attributes:
        source: text of the file; its last class is the block.
        placements: paths and layouts of the compiled program's parameters in the block.
        graph: canonical program.
        unit: channels per unit of width in the search.
        length: sequence length of the search; None only if the program does not depend on it.
        api: Flax API.
        solve_steps: largest number of conjugate-gradient steps of LEAST_SQUARES.
    """

    source: str
    placements: tuple[ParameterPlacement, ...]
    graph: Graph
    unit: int
    length: int | None
    api: API
    solve_steps: int


def verify_export(exported: ExportedSource) -> None:
    """Check that exported source reproduces its program with random parameters and inputs.

    A program that does not depend on the sequence length is verified on a short sequence.

    Raises:
        WorkFailedError: outputs, gradients, parameters or initial values differ, a later position changes an
            earlier output, or decoding in pieces gives other outputs than the whole sequence.
    """
    length = exported.length or LONGEST_PROBE
    if not exported.graph.length_dependent:
        length = min(length, LONGEST_PROBE)
    program = compile_block(exported.graph, exported.unit, length, solve_steps=exported.solve_steps)
    functions = ExportedFunctions(load_source(exported.source), exported.api, program.width, program.length)
    comparison = _Comparison(functions, program, exported.placements, length)
    # On the CPU, since other devices lack float64 or multiply float32 matrices with lower precision.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        comparison.check_initial_values()
        difference = comparison.find_difference(TOLERANCE)
        if difference is not None:
            with jax.enable_x64(True):
                difference = comparison.find_difference(EXACT_TOLERANCE)
    if difference is not None:
        raise WorkFailedError(f"the exported source does not reproduce the program: {difference}; nothing was written")


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Exported module and compiled program at one size."""

    exported: ExportedFunctions
    program: BlockFunctions
    placements: tuple[ParameterPlacement, ...]
    length: int

    def check_initial_values(self) -> None:
        """Check paths, shapes and initial values; if a parameter starts random, check only its path and shape."""
        shapes = self.exported.shapes(self.length)
        expected = {placement.path for placement in self.placements}
        if set(shapes) != expected:
            raise WorkFailedError(f"the exported module's parameters differ: {sorted(set(shapes) ^ expected)}")
        pairs = list(zip(self.program.specs, self.placements, strict=True))
        random = {placement.path for spec, placement in pairs if spec.init is Init.FAN_IN}

        def fixed_values() -> dict[Any, jax.Array]:
            return {path: leaf for path, leaf in self.exported.initial(self.length).items() if path not in random}

        found = jax.jit(fixed_values)() if len(random) < len(pairs) else {}
        for spec, placement in pairs:
            path, wanted = placement.path, placement.to_module_layout(initial_value(spec, np.zeros, np))
            if shapes[path] != wanted.shape or (path in found and not np.allclose(found[path], wanted)):
                raise WorkFailedError(f"the exported module has another initial {'.'.join(path)} than the program")

    def find_difference(self, tolerance: float) -> str | None:
        """Return a description of the first difference, or None."""
        rng = np.random.default_rng(0)
        dtype = jnp.dtype(jnp.float64) if tolerance == EXACT_TOLERANCE else jnp.dtype(jnp.float32)
        drawn = {name: jnp.asarray(array, dtype) for name, array in self.program.draw(rng).items()}
        inputs = jnp.asarray(_inputs(rng, self.length, self.program.width), dtype)
        weights = jnp.asarray(rng.standard_normal(inputs.shape), dtype)
        carried = {p.path: jnp.asarray(p.to_module_layout(np.asarray(drawn[p.name]))) for p in self.placements}
        pieces = _pieces(self.length)
        packable = not packing_fault(self.program.graph)
        ids = jnp.asarray(_segment_ids(len(inputs), self.length))

        def run_both(drawn: Any, carried: Any, x: jax.Array) -> tuple[Any, ...]:
            output, pull = jax.vjp(self.program.apply, drawn, x)
            own_output, own_pull = jax.vjp(self.exported.apply, carried, x)
            decoded = self.exported.decode(carried, x[:1], pieces)
            packed: list[jax.Array] = []
            if packable:
                packed.append(self.program.apply(drawn, x, segment_ids=ids))
                packed.append(self.exported.apply(carried, x, segment_ids=ids))
            return output, pull(weights), own_output, own_pull(weights), decoded, packed

        run = jax.jit(run_both, compiler_options=FAST_COMPILATION)
        output, (gradients, slope), own_output, (own, own_slope), decoded, packed = run(drawn, carried, inputs)
        pairs = [("the output", output, own_output), ("the gradient of the input", slope, own_slope)]
        pairs += [("the output of packed texts", *packed)] if packed else []
        for placement in self.placements:
            name, wanted = placement.name, placement.to_module_layout(gradients[placement.name])
            pairs.append((f"the gradient of {name}", wanted, own[placement.path]))
        # A value that is 0 in exact arithmetic is only rounding noise, so its size cannot be the divisor.
        floor = NEGLIGIBLE * max(1.0, *(_size(np.asarray(wanted)) for _, wanted, _ in pairs[1:]))
        pairs.append((f"the output, decoded in pieces of {pieces},", own_output[:1], decoded))
        for name, wanted, found in pairs:
            difference = _difference(np.asarray(wanted), np.asarray(found), floor)
            if not difference <= tolerance:
                return f"{name} differs by {difference:.2g} of its size"
        return _leak(np.asarray(own_output), tolerance)


def _pieces(length: int) -> list[int]:
    """Return the lengths of a prompt, one position and the rest, without empty pieces."""
    pieces: list[int] = []
    for piece in (max(1, length // 2), 1, length):
        pieces.append(min(piece, length - sum(pieces)))
    return [piece for piece in pieces if piece]


def _segment_ids(sequences: int, length: int) -> np.ndarray:
    """Return `[sequences, length]`: two texts in each sequence, with different lengths in each sequence."""
    cuts = [(number + 1) * length // (sequences + 1) for number in range(sequences)]
    return (np.arange(length) >= np.array(cuts)[:, None]).astype(np.int32)


def _inputs(rng: np.random.Generator, length: int, width: int) -> np.ndarray:
    """Return `[3, length, width]`: a sequence, and copies resampled from half-way and from the last position on."""
    x = np.repeat(rng.standard_normal((1, length, width)), 3, axis=0)
    for row, position in ((1, length // 2), (2, length - 1)):
        x[row, position:] = rng.standard_normal((length - position, width))
    return x


def _leak(output: np.ndarray, tolerance: float) -> str | None:
    """Return a description of an output that depends on a later position, or None."""
    length = output.shape[1]
    for row, position in ((1, length // 2), (2, length - 1)):
        if position and not _difference(output[0, :position], output[row, :position]) <= tolerance:
            return f"an earlier output changed when the input was resampled from position {position} on"
    return None


def _difference(wanted: np.ndarray, found: np.ndarray, floor: float = 0.0) -> float:
    """Return the largest difference relative to the largest entry; infinite if shapes or non-finite entries differ."""
    if wanted.shape != found.shape:
        return float("inf")
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    difference = np.abs(wanted[finite] - found[finite]).max(initial=0.0)
    return float(difference / (max(_size(wanted), floor) or 1.0))


def _size(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
