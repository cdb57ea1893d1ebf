"""The text of an exported file: docstring, imports, runtime definitions, submodules and block, in NNX or Linen."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence

from ...primitives.graphs.graph import Graph
from ...primitives.graphs.parameters import parameter_count
from ...primitives.ops.op_table import OPS
from ...primitives.ops.value_types import MODEL_WIDTH
from .block_origin import lowest_version
from .class_header import class_header
from .classes import ExportedClass
from .formatting import LINE_LENGTH, call_lines, docstring_text
from .plan.sizes import SizeExpressions
from .plan.steps import ExportPlan
from .runtime_source import API, runtime_definitions

__all__ = ["RESERVED", "plugin_definitions", "render", "size_sentence"]

RESERVED = frozenset(
    {"self", "x", "y", "z", "jax", "jnp", "nnx", "nn", "functools", "Any", "math", "width", "length", "dtype"}
    | {
        "param_dtype",
        "rngs",
        "linear",
        "general",
        "options",
        "start",
        "decode",
        "visibility",
        "segment_ids",
        "mask",
        "promote_dtype",
        "DTypeLike",
        "SOLVE_STEPS",
    }
    | {*runtime_definitions("nnx"), *dir(builtins)}
)
"""Names that classes and variables of a program must not have, since the other code of a file may use them."""

LONGEST_REASON = 75
"""Largest number of characters of the reason in the error of a block that refuses segment ids or a mask."""

MASK_LINES = (
    "",
    "        `mask`, an alternative to `segment_ids`, is True where a position may read another, in addition to",
    "        the causal mask. Its four axes broadcast to [batch, 1, queries, keys]. With `decode`, its keys begin",
    "        at the first position of the sequence in every call.",
)
"""Lines that the docstring of a block has if it takes a mask."""

COMMENTS = (
    ("where=causal_mask(", "softmax attention, causal"),
    ("jnp.square(jax.nn.relu(", "squared ReLU (Primer, section 4)"),
    ("jax.nn.gelu(", "GELU in its tanh form"),
)
"""Texts, and the comments of the statements that contain them."""


def render(
    docstring: Sequence[str],
    plan: ExportPlan,
    classes: Sequence[ExportedClass],
    sizes: SizeExpressions,
    api: API,
    flax_norms: bool,
    solve_steps: int,
) -> str:
    """Return the text of a file with these classes, the runtime definitions and the imports that they need."""
    code = "".join(f"\n\n{_class_text(plan, one, sizes, api, flax_norms)}\n" for one in classes)
    definitions = _needed_definitions(
        code, {**_constants(solve_steps), **runtime_definitions(api), **plugin_definitions(plan.graph)}
    )
    sections = ["\n".join(docstring), "\n".join(_imports("".join([code, *definitions.values()]), api))]
    sections += [_flax_check()] * (api == "nnx")
    sections += [text for key, text in definitions.items() if key.isupper()]
    others = "".join(f"\n\n{text}\n" for key, text in definitions.items() if not key.isupper())
    return "\n\n".join(sections) + "\n" + others + code


def size_sentence(plan: ExportPlan, unit: int, length: int | None) -> str:
    """Return the sentences about the sizes of the block, for the file's docstring."""
    count = parameter_count(plan.graph, unit, length)
    size = f"width {MODEL_WIDTH * unit}" + (f" and length {length}" if plan.graph.length_dependent else "")
    text = f"{count:,} parameters at {size}, the size of the program. The block can be built at other sizes."
    if plan.query_scales:
        text += " Queries are scaled by 1 / sqrt(head width) at every size."
    return f"{text} All other constants are the program's, at every size."


def _class_text(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API, flax_norms: bool) -> str:
    return "\n".join([*class_header(plan, one, sizes, api, flax_norms), *_call(plan, one, api)])


def _call(plan: ExportPlan, one: ExportedClass, api: API) -> list[str]:
    arguments = ["self", *(f"{name}: jax.Array" for name in one.inputs)]
    if one.submodule is not None:
        arguments += ["start: jax.Array | None"] * one.is_stateful
        arguments += ["visibility: jax.Array | None"] * one.reads_texts
        lines = call_lines("def __call__", arguments, " -> jax.Array:", 4)
    else:
        named = ["*"] if api == "nnx" else []  # `nn.remat` takes static arguments only by position
        arguments += [*named, "decode: bool = False", "segment_ids: jax.Array | None = None"]
        arguments += ["mask: jax.Array | None = None"]
        lines = call_lines("def __call__", arguments, " -> jax.Array:", 4)
        lines += _docstring(plan)
        lines += _checks(plan, one)
    statements = one.body.statements
    for number, statement in enumerate(statements):
        last = number == len(statements) - 1
        line = f"        return {statement.text}" if last else f"        {statement.name} = {statement.text}"
        lines.append(_commented(line))
    return lines


def _docstring(plan: ExportPlan) -> list[str]:
    first = (
        '        """Return the output at each position; with `decode`, x continues the sequence of the last such call.'
    )
    if plan.packing_fault:
        return [f'{first}"""']
    return [
        first,
        "",
        "        `segment_ids` [batch, length] keep packed texts apart. They are equal within a text, and each text",
        "        gets the same outputs as alone in a sequence. Padding is a separate text. With `decode`, they begin",
        "        at the first position of the sequence in every call. Positions after their end belong to the last",
        "        text.",
        *([] if plan.mask_fault else MASK_LINES),
        '        """',
    ]


def _checks(plan: ExportPlan, one: ExportedClass) -> list[str]:
    lines = [
        "        x = jnp.asarray(x)",
        "        if x.ndim != 3 or x.shape[-1] != self.width:",
        '            raise ValueError(f"x must be [batch, length, {self.width}], not {list(x.shape)}")',
    ]
    if plan.graph.length_dependent:
        lines += [
            "        if x.shape[1] > self.length or (x.shape[1] < self.length and not decode):",
            '            raise ValueError(f"this block was built for length {self.length}, not {x.shape[1]}; '
            'build one for that")',
        ]
    lines += [
        "        dtype = jnp.promote_types(x.dtype, self.param_dtype) if self.dtype is None else self.dtype",
        "        x = x.astype(dtype)",
    ]
    result = "visibility = " if one.reads_texts else ""
    if plan.packing_fault:
        lines += _refusal("segment_ids", "are", plan.packing_fault)
    else:
        lines.append(f"        {result}number_texts(segment_ids, x, decode)")
    if plan.mask_fault:
        lines += _refusal("mask", "is", plan.mask_fault)
    else:
        lines += ["        if mask is not None:", f"            {result}checked_mask(mask, segment_ids, x, decode)"]
    if one.is_stateful:
        lines.append("        start = self.position(x) if decode else None")
    return lines


def _refusal(argument: str, verb: str, reason: str) -> list[str]:
    message = f'"{argument} {verb} refused: {docstring_text(reason)[:LONGEST_REASON]}"'
    return [f"        if {argument} is not None:", *call_lines("raise ValueError", [message], "", 12)]


def _commented(line: str) -> str:
    for text, comment in COMMENTS:
        if text in line and len(line) + len(comment) + 4 <= LINE_LENGTH:
            return f"{line}  # {comment}"
    return line


def _constants(solve_steps: int) -> dict[str, str]:
    """Return the constants that differ from file to file."""
    docstring = "Largest number of conjugate-gradient steps; a position stops earlier once its system is solved."
    return {"SOLVE_STEPS": f'SOLVE_STEPS = {solve_steps}\n"""{docstring}"""'}


def plugin_definitions(graph: Graph) -> dict[str, str]:
    """Return the source text of the functions that plugins define for ops in a program, by name."""
    ops = [OPS[node.op] for node in graph.nodes if node.op in OPS]
    return {op.source.partition("(")[0]: op.definition for op in ops if op.definition}


def _needed_definitions(code: str, definitions: Mapping[str, str]) -> dict[str, str]:
    """Return the definitions that the code uses, directly or through other definitions."""
    needed: set[str] = set()
    unread = [code]
    while unread:
        text = unread.pop()
        found = {name for name in definitions if name not in needed and _uses(text, name)}
        needed |= found
        unread += [definitions[name] for name in found]
    return {name: text for name, text in definitions.items() if name in needed}


def _uses(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\b", code) is not None


def _flax_check() -> str:
    """Return the statement that refuses a Flax without `nnx.data`, which NNX files use."""
    message = f'"this file needs nnx.data, which Flax {lowest_version("flax")} has: pip install --upgrade flax"'
    return f'if not hasattr(nnx, "data"):\n    raise ImportError({message})'


def _imports(code: str, api: API) -> list[str]:
    lines = ["import functools"] if _uses(code, "functools") else []
    lines += ["from typing import Any"] if _uses(code, "Any") else []
    lines += [""] if lines else []
    lines += ["import jax", "import jax.numpy as jnp"]
    lines += ["from flax import nnx" if api == "nnx" else "from flax import linen as nn"]
    if _uses(code, "promote_dtype"):
        lines.append(f"from flax.{'nnx.nn' if api == 'nnx' else 'linen'}.dtypes import promote_dtype")
    return [*lines, "from jax.typing import DTypeLike"]
