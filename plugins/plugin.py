"""Content of a plugin: rows of the op table, mutations and library programs."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..primitives.errors import UsageError
from ..primitives.ops.op_table import (
    DecodeState,
    Law,
    Op,
    OpSizes,
    Parameter,
    ResultRule,
    TimeDependence,
    WidthMatch,
    broadcast_shape,
    dimension_shape,
    mixed_shape,
    pair_shape,
    same_shape,
)
from ..primitives.programs.program import DNA

__all__ = ["Plugin", "PluginMutation", "ProgramText", "primitive"]

PluginMutation = Callable[[DNA, np.random.Generator], "tuple[DNA, str] | None"]
"""Returns the child and a one-line description of the edit, or None if it does not apply to the program."""


@dataclass(frozen=True, slots=True)
class ProgramText:
    """A library program as text, assembled after the ops of its plugin are added (see `primitives.programs.assembler`).

    Attributes:
        description: description in one line.
        subprograms: text of each subprogram by name, MAIN first.
        constants: constants by name; `query_scale` is adapted to the size of the model.
        dimensions: relative widths.
        reference: paper or person that proposed it.
        native_unit: channels per unit of width at the size that the program is meant for.
        length_dependent: whether the program may be tied to one sequence length.
    """

    description: str
    subprograms: Mapping[str, str]
    constants: Mapping[str, float] = field(default_factory=lambda: {"zero": 0.0, "query_scale": 0.125})
    dimensions: tuple[int, ...] = (8, 32, 2, 4, 16, 48)
    reference: str = "a plugin"
    native_unit: int = 64
    length_dependent: bool = False


@dataclass(frozen=True, slots=True)
class Plugin:
    """The content of a plugin; a plugin file assigns one to the name `PLUGIN`.

    Attributes:
        ops: rows of the op table, made with `primitive`.
        mutations: mutations by name. The paper's algorithm draws each as often as one of its six types; a guided search
            draws each with weight 1 (see `search.guided.live_mutations`).
        programs: library programs by name.
    """

    ops: Sequence[Op] = ()
    mutations: Mapping[str, PluginMutation] = field(default_factory=dict)
    programs: Mapping[str, ProgramText] = field(default_factory=dict)


def primitive(
    name: str,
    summary: str,
    forward: Callable[..., Any],
    reference: Callable[..., Any],
    *,
    flops: Callable[[OpSizes], float],
    family: str,
    operands: int = 1,
    parameters: Sequence[Parameter] = (),
    uses_dimension: bool = False,
    uses_constant: bool = False,
    result: ResultRule | None = None,
    laws: Sequence[Law] = (),
    time_dependence: TimeDependence = TimeDependence.POINTWISE,
    kernel: int = 1,
    decode_state: DecodeState | None = None,
    before_start: float = 0.0,
    width_match: WidthMatch | None = None,
    source: str = "a plugin",
) -> Op:
    """Return a row of the op table.

    `forward` and `reference` take the operands by position (`[..., length, width]`), the parameters by name, and, if
    the op uses it, `constant`. A parameter has the leading axes of the operands, then its own shape: `x @ kernel` and
    `x * scale[..., None, :]` are right for any number of branches.

    Args:
        name: name in programs, such as `GATED_UNIT`.
        summary: one line of the op table.
        forward: function in JAX. Exported files contain its source text, so it must be a plain function that uses only
            `jax`, `jnp`, its arguments and names that it defines itself.
        reference: the same function in NumPy; `forward` is compared with its float64 result.
        flops: floating-point operations per position of the output.
        family: group of similar ops, built-in or new. Guided mutations first draw a family, then an op of the family.
        operands: number of operands, 1 or 2.
        parameters: learned arrays; their `init` is `FAN_IN`, `ONES` or `ZEROS`.
        uses_dimension, uses_constant: whether the op reads that field of the instruction.
        result: function that returns the kind and width of the output. By default, the output of `PAIRS` and `MIXES` is
            as `time_dependence` says. Of other ops, it is an activation as wide as the dimension if the op uses one,
            else it has the kind and width of the operands.
        laws: algebraic laws.
        time_dependence: `POINTWISE`, `PAST` (one operand), `REDUCES`, `PAIRS` (two activations give scores) or `MIXES`
            (scores and an activation give an activation).
        kernel: number of positions that a `PAST` op reads, if the number is limited.
        decode_state: state of a `PAST` op in decoding: the last `kernel - 1` inputs (the default if `kernel` > 1) or
            the last output, which is then prepended to the new inputs. For `PAIRS` and `MIXES`, decoding keeps the
            second operand.
        before_start: output kept at the start of a sequence, before the first position; kept inputs start as 0.
        width_match: operands whose widths must agree; by default both, except that a scalar broadcasts.
        source: paper or person that proposed the op.

    Raises:
        UsageError: `forward` is not a plain function.
    """
    shape = dimension_shape if uses_dimension else broadcast_shape if operands == 2 else same_shape
    match, kept = WidthMatch.UNLESS_SCALAR if operands == 2 else WidthMatch.FREE, DecodeState.NOTHING
    if time_dependence is TimeDependence.PAST:
        kept = DecodeState.INPUTS if kernel > 1 else DecodeState.OUTPUT
    elif time_dependence is TimeDependence.PAIRS:
        shape, match, kept = pair_shape, WidthMatch.ALWAYS, DecodeState.SECOND
    elif time_dependence is TimeDependence.MIXES:
        shape, match, kept = mixed_shape, WidthMatch.FREE, DecodeState.SECOND
    arguments = [f"{{{slot}}}" for slot in range(operands)]
    arguments += ["constant={c}"] if uses_constant else []

    def apply(xp: Any, values: list[Any], learned: dict[str, Any], constant: float | None, taps: int) -> Any:
        function = reference if xp is np else forward
        given = {"constant": constant} if uses_constant else {}
        return function(*values, **learned, **given)

    return Op(
        name=name,
        summary=summary,
        operands=operands,
        result=result or shape,
        apply=apply,
        source=f"{forward.__name__}({', '.join(arguments)})",
        flops=flops,
        parameters=tuple(parameters),
        uses_constant=uses_constant,
        uses_dimension=uses_dimension,
        kernel=kernel,
        width_match=width_match or match,
        laws=frozenset(laws),
        time_dependence=time_dependence,
        decode_state=decode_state or kept,
        before_start=before_start,
        family=family,
        definition=_definition(name, forward),
        reference=source,
    )


def _definition(op: str, forward: Callable[..., Any]) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(forward)).rstrip()
    except (OSError, TypeError):
        text = ""
    if not text.startswith(f"def {getattr(forward, '__name__', '')}("):
        raise UsageError(
            f"the forward function of op {op} must be a plain `def` without decorators, because exported files contain "
            "its text"
        )
    return text
