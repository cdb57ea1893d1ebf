"""The exported file as text: docstring, imports, helpers, parts, and the class of the block, in NNX or Linen."""

from __future__ import annotations

import builtins
import re
from dataclasses import dataclass

from ...primitives.graph import Graph
from ...primitives.parameters import parameter_count, parameter_specs
from ...primitives.value_types import MODEL_WIDTH
from .class_header import class_head
from .classes import ExportedClass, ParameterPlacement, make_classes, placements
from .constructors import API
from .formatting import LINE_LENGTH, call_lines
from .plan import ExportPlan, plan_export
from .provenance import Provenance, docstring_lines
from .runtime_helpers import CONSTANTS, FUNCTIONS, LINEN_CLASSES, NNX_CLASSES
from .sizes import SizeExpressions

__all__ = ["API", "RESERVED", "ExportedSource", "render"]

RESERVED = frozenset(
    {"self", "x", "y", "z", "jax", "jnp", "nnx", "nn", "functools", "Any", "math", "width", "length", "dtype"}
    | {"param_dtype", "rngs", "linear", "general", "options", "start", "decode", "promote_dtype", "DTypeLike"}
    | {*CONSTANTS, *FUNCTIONS, *NNX_CLASSES, *dir(builtins)}
)
"""Names an exported file uses already, or may."""

COMMENTS = (
    ("where=causal_mask(", "softmax attention, causal"),
    ("jnp.square(jax.nn.relu(", "squared ReLU (Primer, section 4)"),
    ("jax.nn.gelu(", "GELU in its tanh form"),
)
"""What a statement is, by what is in it."""

FLAX = {"nnx": "nnx", "linen": "nn"}
CLASSES = {"nnx": NNX_CLASSES, "linen": LINEN_CLASSES}


@dataclass(frozen=True, slots=True)
class ExportedSource:
    """An exported file.

    Attributes:
        source: its text.
        placements: where each parameter of the compiled program lies in its block.
    """

    source: str
    placements: tuple[ParameterPlacement, ...]


def render(
    graph: Graph,
    name: str,
    provenance: Provenance | None,
    unit: int,
    length: int | None,
    *,
    api: API = "nnx",
    checked: bool = False,
    flax_norms: bool = True,
) -> ExportedSource:
    """The source text of a class `name` that computes `graph`.

    Args:
        graph: a canonical program.
        name: a valid class name.
        provenance: where the program came from.
        unit: channels a unit of the size it was searched at.
        length: sequence length it was searched at.
        api: of Flax.
        checked: whether the docstring says that the file was verified.
        flax_norms: whether norms are Flax's, or guarded as the program's are.
    """
    plan = plan_export(graph, unit)
    sizes = SizeExpressions.of(plan, "" if api == "nnx" else "self.")
    classes = make_classes(plan, name, RESERVED | set(sizes.counts.values()), sizes)
    code = "".join(f"\n\n{_class_text(plan, one, sizes, api, flax_norms)}\n" for one in classes)
    helpers = _helpers(code, api)
    everything = code + "".join(helpers)
    sized = _sizes(graph, plan, unit, length)
    docstring = docstring_lines(name, provenance, sized, graph.structure_hash, api, checked)
    sections = ["\n".join(docstring), "\n".join(_imports(everything, api))]
    sections += [text.format(flax=FLAX[api]).strip("\n") for key, text in CONSTANTS.items() if _uses(everything, key)]
    source = "\n\n".join(sections) + "\n" + "".join(f"\n\n{text.strip()}\n" for text in helpers) + code
    where = placements(plan, classes[-1], parameter_specs(graph, unit, length))
    return ExportedSource(source, where)


def _class_text(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API, flax_norms: bool) -> str:
    return "\n".join([*class_head(plan, one, sizes, api, flax_norms), *_call(plan, one, api)])


def _call(plan: ExportPlan, one: ExportedClass, api: API) -> list[str]:
    arguments = ["self", *(f"{name}: jax.Array" for name in one.inputs)]
    if one.part is not None:
        arguments += ["start: jax.Array | None"] * one.decodes
        lines = call_lines("def __call__", arguments, " -> jax.Array:", 4)
    else:
        named = ["*"] if api == "nnx" else []  # `nn.remat` takes static arguments by position alone
        lines = call_lines("def __call__", [*arguments, *named, "decode: bool = False"], " -> jax.Array:", 4)
        lines.append(
            '        """The output at each position of x; with `decode`, x goes on where the last such call ended."""'
        )
        lines += _checks(plan, one)
    statements = one.body.statements
    for number, statement in enumerate(statements):
        last = number == len(statements) - 1
        line = f"        return {statement.text}" if last else f"        {statement.name} = {statement.text}"
        lines.append(_commented(line))
    return lines


def _checks(plan: ExportPlan, one: ExportedClass) -> list[str]:
    lines = [
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
    if one.decodes:
        lines.append("        start = self.position(x) if decode else None")
    return lines


def _commented(line: str) -> str:
    for text, comment in COMMENTS:
        if text in line and len(line) + len(comment) + 4 <= LINE_LENGTH:
            return f"{line}  # {comment}"
    return line


def _helpers(code: str, api: API) -> list[str]:
    """Functions and classes that the code uses, or that those use, in the order of their tables."""
    table = FUNCTIONS | CLASSES[api]
    needed: set[str] = set()
    waiting = [code]
    while waiting:
        text = waiting.pop()
        found = {name for name in table if name not in needed and _uses(text, name)}
        needed |= found
        waiting += [table[name] for name in found]
    return [text for name, text in table.items() if name in needed]


def _uses(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\b", code) is not None


def _imports(code: str, api: API) -> list[str]:
    lines = ["import functools"] if _uses(code, "functools") else []
    lines += ["from typing import Any"] if _uses(code, "Any") else []
    lines += [""] if lines else []
    lines += ["import jax", "import jax.numpy as jnp"]
    lines += ["from flax import nnx" if api == "nnx" else "from flax import linen as nn"]
    if _uses(code, "promote_dtype"):
        lines.append(f"from flax.{'nnx.nn' if api == 'nnx' else 'linen'}.dtypes import promote_dtype")
    return [*lines, "from jax.typing import DTypeLike"]


def _sizes(graph: Graph, plan: ExportPlan, unit: int, length: int | None) -> str:
    count = parameter_count(graph, unit, length)
    at = f"width {MODEL_WIDTH * unit}" + (f" and length {length}" if graph.length_dependent else "")
    text = f"{count:,} parameters at {at}, where it was exported. Other sizes work too."
    if plan.query_scales:
        text += " Queries are scaled by 1 / sqrt(head width), as the program's constant was."
    return f"{text} Other numbers in the code are those of the program and do not follow the width."
