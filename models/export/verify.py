"""Does exported source compute what the program computes? Its text is run beside the compiled program.

Both get the same random parameters, none at 0 or 1, and the same inputs, of which each repeats the first with its
future drawn anew: one run compares outputs, gradients, and the past. Another decodes in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...primitives.canonical import build_graph
from ...primitives.errors import WorkFailedError
from ...primitives.ops import Init
from ...primitives.program import DNA
from ..block import BlockFunctions, compile_block, initial_value
from .classes import ParameterPlacement
from .constructors import API
from .exported_module import ExportedFunctions, load_source
from .render import ExportedSource

__all__ = ["verify_export"]

TOLERANCE = 1e-5
"""Largest difference in float32, relative to the array's largest entry."""

EXACT_TOLERANCE = 1e-9
"""The same in float64, which decides about programs that amplify float32's rounding."""

NEGLIGIBLE = 1e-3
"""Size, relative to inputs and to the largest gradient, under which an array's differences are measured by that."""

FAST_COMPILATION = {"xla_backend_optimization_level": 0}
"""The comparison runs once: compiling it is all it costs."""

LONGEST_PROBE = 8


def verify_export(
    rendered: ExportedSource,
    dna: DNA,
    unit: int,
    length: int | None = None,
    *,
    length_dependent: bool = False,
    api: API = "nnx",
    seed: int = 0,
) -> None:
    """Refuse source that does not reproduce its program.

    Args:
        rendered: the exported text, whose last class is the block, and where its parameters lie.
        dna: the program.
        unit: channels in a unit of relative width.
        length: sequence length; a program that is tied to none is tried on a short one.
        length_dependent: allow ops that tie the block to one sequence length.
        api: of Flax that the text is written in.
        seed: of parameters and inputs.

    Raises:
        WorkFailedError: outputs, gradients, parameters or initial values differ, a later position changes an
            earlier output, or decoding in pieces gives other outputs than the whole sequence.
    """
    graph = build_graph(dna, length_dependent=length_dependent)
    if length is None or not graph.length_dependent:
        length = min(length or LONGEST_PROBE, LONGEST_PROBE)
    program = compile_block(graph, unit, length)
    tied = length if graph.length_dependent else None
    exported = ExportedFunctions(load_source(rendered.source), api, program.width, tied)
    # On the CPU: other devices have no float64, or multiply float32 matrices with fewer bits.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        _check_initial_values(exported, program, rendered.placements, length)
        fault = _fault(exported, program, rendered.placements, length, seed, TOLERANCE)
        if fault is not None:
            with jax.enable_x64(True):
                fault = _fault(exported, program, rendered.placements, length, seed, EXACT_TOLERANCE)
    if fault is not None:
        raise WorkFailedError(f"the exported source does not reproduce the program: {fault}; nothing was written")


def _check_initial_values(
    exported: ExportedFunctions, program: BlockFunctions, where: Sequence[ParameterPlacement], length: int
) -> None:
    shapes = exported.shapes(length)
    expected = {placement.path for placement in where}
    if set(shapes) != expected:
        raise WorkFailedError(f"the exported module's parameters differ: {sorted(set(shapes) ^ expected)}")
    fixed = {
        placement.path: placement.to_module_layout(initial_value(spec, np.zeros, np))
        for spec, placement in zip(program.specs, where, strict=True)
    }
    drawn = {placement.path for spec, placement in zip(program.specs, where, strict=True) if spec.init is Init.FAN_IN}

    def starts() -> dict[Any, jax.Array]:
        return {path: leaf for path, leaf in exported.initial(length).items() if path not in drawn}

    found = jax.jit(starts)() if len(drawn) < len(fixed) else {}
    for path, wanted in fixed.items():
        if shapes[path] != wanted.shape or (path in found and not np.allclose(found[path], wanted)):
            raise WorkFailedError(f"the exported module starts {'.'.join(path)} differently than the program does")


def _fault(
    exported: ExportedFunctions,
    program: BlockFunctions,
    where: Sequence[ParameterPlacement],
    length: int,
    seed: int,
    tolerance: float,
) -> str | None:
    """What differs, or None."""
    rng = np.random.default_rng(seed)
    dtype = jnp.dtype(jnp.float64) if tolerance == EXACT_TOLERANCE else jnp.dtype(jnp.float32)
    drawn = {name: jnp.asarray(array, dtype) for name, array in program.draw(rng).items()}
    inputs = jnp.asarray(_inputs(rng, length, program.width), dtype)
    weights = jnp.asarray(rng.standard_normal(inputs.shape), dtype)
    carried = {
        placement.path: jnp.asarray(placement.to_module_layout(np.asarray(drawn[placement.name])))
        for placement in where
    }
    pieces = _pieces(length)

    def everything(drawn: Any, carried: Any, x: jax.Array) -> tuple[Any, ...]:
        output, pull = jax.vjp(program.apply, drawn, x)
        own_output, own_pull = jax.vjp(exported.apply, carried, x)
        return output, pull(weights), own_output, own_pull(weights), exported.decode(carried, x[:1], pieces)

    run = jax.jit(everything, compiler_options=FAST_COMPILATION)
    output, (gradients, slope), own_output, (own, own_slope), decoded = run(drawn, carried, inputs)
    pairs = [("the output", output, own_output), ("the gradient of the input", slope, own_slope)]
    pairs += [(f"the gradient of {p.name}", p.to_module_layout(gradients[p.name]), own[p.path]) for p in where]
    # What is 0 in exact arithmetic is rounding noise in both: its own size is no measure of it.
    floor = NEGLIGIBLE * max(1.0, *(_size(np.asarray(wanted)) for _, wanted, _ in pairs[1:]))
    pairs.append((f"the output, decoded in pieces of {pieces},", own_output[:1], decoded))
    for name, wanted, found in pairs:
        difference = _difference(np.asarray(wanted), np.asarray(found), floor)
        if not difference <= tolerance:
            return f"{name} differs by {difference:.2g} of its size"
    return _leak(np.asarray(own_output), tolerance)


def _pieces(length: int) -> list[int]:
    """A prompt, a single position, and the rest at once, as far as they go."""
    pieces: list[int] = []
    for piece in (max(1, length // 2), 1, length):
        pieces.append(min(piece, length - sum(pieces)))
    return [piece for piece in pieces if piece]


def _inputs(rng: np.random.Generator, length: int, width: int) -> np.ndarray:
    """`[batch, length, width]`: a sequence, and copies of it resampled from half-way and from the last position on."""
    x = np.repeat(rng.standard_normal((1, length, width)), 3, axis=0)
    for row, position in ((1, length // 2), (2, length - 1)):
        x[row, position:] = rng.standard_normal((length - position, width))
    return x


def _leak(output: np.ndarray, tolerance: float) -> str | None:
    length = output.shape[1]
    for row, position in ((1, length // 2), (2, length - 1)):
        if position and not _difference(output[0, :position], output[row, :position]) <= tolerance:
            return f"with the input from position {position} on resampled, an earlier output moved"
    return None


def _difference(wanted: np.ndarray, found: np.ndarray, floor: float = 0.0) -> float:
    """Largest difference relative to the largest entry; infinite where shapes or non-finite entries differ."""
    if wanted.shape != found.shape:
        return float("inf")
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    difference = np.abs(wanted[finite] - found[finite]).max(initial=0.0)
    return float(difference / (max(_size(wanted), floor) or 1.0))


def _size(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
