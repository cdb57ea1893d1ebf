"""Contract of programs that contain a plugin's ops, and of the plugin's mutations and library programs.

Each program is proved and tested to be causal, compiled and compared with the reference, decoded step by step, and
exported for one or both Flax APIs. `verify_export` compares outputs, gradients and decoding of the export with the
compiled program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..primitives.causality.causality_test import check_causality
from ..primitives.errors import InvalidProgramError, PrimerSearchError, WorkFailedError
from ..primitives.graphs.canonical import build_graph
from ..primitives.graphs.fingerprint import fingerprint
from ..primitives.graphs.graph import smallest_unit
from ..primitives.graphs.interpreter import evaluate_reference
from ..primitives.ops.op_table import Op, TimeDependence
from ..primitives.ops.value_types import SCORES
from ..primitives.programs.assembler import assemble
from ..primitives.programs.program import DNA
from ..primitives.programs.program_json import dna_from_json, dna_to_json
from .op_contract import BrokenContractError, operand_kinds
from .plugin import PluginMutation

if TYPE_CHECKING:  # loads JAX
    from ..models.export.runtime_source import API

__all__ = ["check_mutation", "check_op_in_programs", "check_program"]

LENGTH = 8
DRAWS = 100
"""Number of times that a mutation is tried on each program."""


def check_op_in_programs(op: Op) -> None:
    """Check programs with the op: alone, in branches, and on scores if it takes them.

    Raises:
        BrokenContractError: a program breaks a promise.
    """
    if op.time_dependence in (TimeDependence.PAIRS, TimeDependence.MIXES):
        check_program(_heads(op), ("nnx", "linen"))
        return
    check_program(_block(op), ("nnx", "linen"))
    if all(SCORES in kinds for kinds in operand_kinds(op)) or (SCORES,) * op.operands not in operand_kinds(op):
        return
    on_scores = _attention(op)
    try:
        check_causality(build_graph(on_scores))
    except InvalidProgramError:
        return  # the proof rejects the op on scores, so no search will train such a program
    check_program(on_scores)


def check_program(dna: DNA, apis: Sequence[API] = ("nnx",)) -> None:
    """Check one program, from the causality proof to the exports.

    Args:
        dna: the program.
        apis: Flax APIs to export it for.

    Raises:
        BrokenContractError: the program breaks a promise.
    """
    try:
        graph = build_graph(dna, length_dependent=dna.length_dependent)
        check_causality(graph)
    except InvalidProgramError as error:
        raise BrokenContractError(f"{error.reason}: {error}") from error
    except PrimerSearchError as error:
        raise BrokenContractError(str(error)) from error
    if not np.isfinite(np.asarray(evaluate_reference(graph, *_probe(dna)))).all():
        raise BrokenContractError("finiteness: its output is not finite for random parameters and inputs")
    if dna_from_json(dna_to_json(dna)) != dna or not fingerprint(graph):
        raise BrokenContractError("identity: it has no fingerprint, or its JSON does not read back")
    _check_compiled(dna)
    for api in apis:
        _check_export(dna, api)


def check_mutation(mutation: PluginMutation, programs: list[DNA]) -> None:
    """Check that children are programs, differ from their parent, and depend only on the parent and the generator.

    Raises:
        BrokenContractError: the mutation breaks a promise.
    """
    children = 0
    for dna in programs:
        for seed in range(DRAWS):
            first = _mutated(mutation, dna, seed)
            if first != _mutated(mutation, dna, seed):
                raise BrokenContractError("it must draw only from its generator; equal generators gave two children")
            if first is None:
                continue
            child, description = first
            if not isinstance(child, DNA) or not isinstance(description, str) or "\n" in description:
                raise BrokenContractError("it must return a DNA and a description in one line, or None")
            try:
                dna_from_json(dna_to_json(child))
            except PrimerSearchError as error:
                raise BrokenContractError(f"a child is not a program: {error}") from error
            children += child != dna
    if not children:
        raise BrokenContractError(f"it changed none of {len(programs)} library programs in {DRAWS} tries each")


# --- programs that hold an op ------------------------------------------------------------------------------------


def _block(op: Op) -> DNA:
    """Return a residual block with the op on its input and in a branched call."""
    fields = " width=4" if op.uses_dimension else ""
    fields += " constant=c" if op.uses_constant else ""
    second = " wide" if op.operands == 2 else ""
    texts = {
        "main": f"""
            wide   = CONV_1X1 h0 width=8
            own    = {op.name} h0{second}{fields}
            many   = {op.name} own{" own" if second else ""}{fields} branches=2
            back   = CONV_1X1 many width=8
            inner  = heads wide branches=2
            joined = CONV_1X1 inner width=8
            sum    = ADD back joined
            output = ADD h0 sum
        """,
        "heads": f"""
            wide   = CONV_1X1 h0 width=8
            own    = {op.name} h0{second}{fields}
            result = CONV_1X1 own width=8
        """,
    }
    return assemble(texts, {"c": 0.25}, (8, 4))


def _heads(op: Op) -> DNA:
    """Return two attention heads in which the op computes the scores (PAIRS), or mixes the values (MIXES)."""
    pairs = op.time_dependence is TimeDependence.PAIRS
    constant = " constant=c" if op.uses_constant else ""
    texts = {
        "main": """
            inner  = head h0 branches=2
            joined = CONV_1X1 inner width=8
            output = ADD h0 joined
        """,
        "head": f"""
            queries = CONV_1X1 h0 width=8
            keys    = CONV_1X1 h0 width=8
            scores  = {op.name if pairs else "T_MAT_MUL"} queries keys{constant if pairs else ""}
            powers  = SIGMOID scores
            weights = MASK powers
            values  = CONV_1X1 h0 width=8
            result  = {"MAT_MUL" if pairs else op.name} weights values{"" if pairs else constant}
        """,
    }
    return assemble(texts, {"c": 0.25}, (8, 4))


def _attention(op: Op) -> DNA:
    """Return a causal attention that applies the op to its scores, before they are exponentiated and masked."""
    second = " scores" if op.operands == 2 else ""
    fields = " constant=c" if op.uses_constant else ""
    text = f"""
        keys    = CONV_1X1 h0 width=8
        scores  = T_MAT_MUL h0 keys
        own     = {op.name} scores{second}{fields}
        powers  = TANH own
        weights = MASK powers
        mixed   = MAT_MUL weights keys
        output  = ADD h0 mixed
    """
    return assemble({"main": text}, {"c": 0.25}, (8, 4))


# --- the stages ---------------------------------------------------------------------------------------------------


def _probe(dna: DNA) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    from ..primitives.graphs.parameters import draw_parameters

    graph, rng = build_graph(dna, length_dependent=dna.length_dependent), np.random.default_rng(0)
    unit = smallest_unit(graph)
    return draw_parameters(graph, unit, rng, LENGTH), rng.standard_normal((2, LENGTH, 8 * unit))


def _check_compiled(dna: DNA) -> None:
    """Compare the compiled program with the reference, and its decoding with a pass over the whole sequence."""
    import jax
    import jax.numpy as jnp

    from ..models.block import compile_block

    graph = build_graph(dna, length_dependent=dna.length_dependent)
    by_node, x = _probe(dna)
    program = compile_block(graph, smallest_unit(graph), LENGTH)
    learned = {spec.name: by_node[spec.node][spec.key] for spec in program.specs}
    with jax.enable_x64(True):
        wanted = evaluate_reference(graph, by_node, x)
        found = np.asarray(jax.jit(program.apply)(learned, jnp.asarray(x)))
        cache = program.init_cache(len(x), LENGTH, jnp.float64)
        decode, pieces = jax.jit(program.decode), []
        for start, end in ((0, 3), (3, 4), (4, LENGTH)):
            y, cache = decode(learned, cache, jnp.asarray(x[:, start:end]))
            pieces.append(np.asarray(y))
    size = max(1.0, float(np.abs(wanted).max()))
    for what, value in (("compiled", found), ("decoding", np.concatenate(pieces, axis=1))):
        difference = float(np.abs(value - wanted).max()) / size
        if not difference <= 1e-8:
            raise BrokenContractError(f"{what}: the output differs from the reference by {difference:.2g}")


def _check_export(dna: DNA, api: API) -> None:
    from ..models.export.export_program import verified_export

    unit = smallest_unit(build_graph(dna, length_dependent=dna.length_dependent))
    try:
        verified_export(
            dna, name="Probe", unit=unit, length=LENGTH, api=api, length_dependent=dna.length_dependent
        )  # fmt: skip
    except WorkFailedError as error:
        raise BrokenContractError(f"export: {error}") from error
    except Exception as error:  # code of a plugin may raise anything
        why = f"{type(error).__name__}: {error}"
        raise BrokenContractError(f"export ({api}; the file has only `forward`, jax and jnp): {why}") from error


def _mutated(mutation: PluginMutation, dna: DNA, seed: int) -> tuple[DNA, str] | None:
    run: Callable[..., tuple[DNA, str] | None] = mutation
    try:
        return run(dna, np.random.default_rng(seed))
    except Exception as error:  # code of a plugin may raise anything
        raise BrokenContractError(f"it fails with {type(error).__name__}: {error}") from error
