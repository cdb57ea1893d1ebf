"""The exported file as text: docstring, imports, helpers, and the class of the block."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ...primitives.graph import Graph
from ...primitives.parameters import parameter_count, parameter_specs
from ...primitives.program import MODEL_WIDTH
from ...primitives.values import Kind
from .expressions import Statement, statements
from .helpers import CLASSES, CONSTANTS, FUNCTIONS
from .names import Namer, layer_names, section, value_names
from .plan import Layer, LayerKind, Placement, Plan, make_plan
from .provenance import Provenance, docstring_lines
from .text import call_lines, docstring_text
from .widths import width_divisor, width_expression

__all__ = ["RESERVED", "placements", "render"]

RESERVED = frozenset(
    {"self", "x", "jax", "jnp", "nnx", "functools", "width", "length", "dtype", "param_dtype", "rngs", "linear", "conv"}
    | {"promote_dtype", "DTypeLike", *CLASSES, *CONSTANTS, *FUNCTIONS}
)
"""Names an exported file uses already."""

ATTRIBUTES = frozenset(
    {"dtype", "length", "train", "eval", "sow", "perturb", "iter_modules", "iter_children", "set_attributes"}
)

SMALLEST_SECTION = 3
"""Steps that a call must have left for a comment of its own."""

CONSTRUCTORS = {
    LayerKind.LINEAR: "linear",
    LayerKind.CONV: "conv",
    LayerKind.BRANCHED_LINEAR: "BranchedLinear",
    LayerKind.BRANCHED_CONV: "BranchedCausalConv",
    LayerKind.DEPTHWISE: "CausalDepthwiseConv",
    LayerKind.SCALE: "Scale",
    LayerKind.SHIFT: "Shift",
    LayerKind.AFFINE: "Affine",
}


def render(graph: Graph, name: str, provenance: Provenance | None, unit: int, length: int | None, checked: bool) -> str:
    """The source text of a class `name` that computes `graph`.

    Args:
        graph: a canonical program.
        name: a valid class name.
        provenance: where the program came from.
        unit: channels a unit of the size it was searched at, for the docstring.
        length: sequence length it was searched at, for the docstring.
        checked: whether the docstring says that the file was verified.
    """
    plan = make_plan(graph)
    layers = _layers(plan)
    body = statements(plan, value_names(plan), layers, Namer(RESERVED | {name}))
    block = [*_class_head(graph, name), *_init(plan, layers), "", *_call(plan, body)]
    code = "\n".join(block)
    sizes = _sizes(graph, unit, length)
    sections = ["\n".join(docstring_lines(name, provenance, sizes, graph.structure_hash, checked))]
    helpers = _helpers(code)
    sections.append("\n".join(_imports(code + "".join(helpers))))
    sections += [text.strip("\n") for key, text in CONSTANTS.items() if _uses(code + "".join(helpers), key)]
    return "\n\n".join(sections) + "\n" + "".join(f"\n\n{text.strip()}\n" for text in [*helpers, code])


def placements(graph: Graph, unit: int, length: int | None) -> tuple[Placement, ...]:
    """Where each parameter of the compiled program lies in the exported module."""
    plan = make_plan(graph)
    return plan.placements(parameter_specs(graph, unit, length), _layers(plan))


def _layers(plan: Plan) -> dict[int, str]:
    return layer_names(plan, Namer(ATTRIBUTES))


def _class_head(graph: Graph, name: str) -> list[str]:
    divisor = width_divisor(graph)
    multiple = f", a multiple of {divisor}" if divisor > 1 else ""
    lines = [
        f"class {name}(nnx.Module):",
        '    """A decoder block: `[batch, length, width]` to the same; stack it between embedding and head.',
        "",
        "    Args:",
        f"        width: channels of its input and output{multiple}.",
    ]
    if graph.length_dependent:
        lines.append("        length: positions in a sequence; this block works at one length only.")
    return [
        *lines,
        "        dtype: of the computation; None promotes inputs and parameters to a common one, as Flax does.",
        "        param_dtype: of the parameters.",
        "        rngs: source of the initial parameters.",
        '    """',
        "",
    ]


def _init(plan: Plan, layers: dict[int, str]) -> list[str]:
    graph = plan.graph
    arguments = ["self", "width: int", *(["length: int"] if graph.length_dependent else []), "*"]
    arguments += ["dtype: DTypeLike | None = None", "param_dtype: DTypeLike = jnp.float32", "rngs: nnx.Rngs"]
    lines = call_lines("def __init__", arguments, " -> None:", 4)
    divisor = width_divisor(graph)
    wrong = f"width < {divisor} or width % {divisor}" if divisor > 1 else "width < 1"
    remedy = f"must be a multiple of {divisor}" if divisor > 1 else "must be at least 1"
    lines += [f"        if {wrong}:", f'            raise ValueError(f"width {remedy}, not {{width}}")']
    if graph.length_dependent:
        lines += [
            "        if length < 1:",
            '            raise ValueError(f"length must be at least 1, not {length}")',
            "        self.length = length",
        ]
    lines.append("        self.dtype = dtype")
    constructed = [step for step in plan.steps if step.layer]
    kinds = {step.layer.kind for step in constructed if step.layer}
    options = ["use_bias=False", "kernel_init=KERNEL_INIT", "dtype=dtype", "param_dtype=param_dtype", "rngs=rngs"]
    if LayerKind.LINEAR in kinds:
        lines += call_lines("linear = functools.partial", ["nnx.Linear", *options], "", 8)
    if LayerKind.CONV in kinds:
        lines += call_lines("conv = functools.partial", ["nnx.Conv", 'padding="CAUSAL"', *options], "", 8)
    for step in constructed:
        if step.layer:
            head = f"self.{layers[step.node]} = {CONSTRUCTORS[step.layer.kind]}"
            lines += call_lines(head, _arguments(step.layer), "", 8)
    return lines


def _arguments(layer: Layer) -> list[str]:
    count = 1
    for branches in layer.branches:
        count *= branches
    outside = [] if layer.folded else [str(branches) for branches in layer.branches]
    source, target = width_expression(layer.source), width_expression(layer.target)
    dtypes = ["dtype=dtype", "param_dtype=param_dtype"]
    if layer.kind in (LayerKind.LINEAR, LayerKind.CONV):
        kernel = [f"kernel_size={layer.kernel}"] if layer.kind is LayerKind.CONV else []
        bias = ["use_bias=True"] if layer.bias else []
        return [source, width_expression(layer.target, count), *kernel, *bias]
    if layer.kind is LayerKind.BRANCHED_LINEAR:
        return [*outside, source, target, *dtypes, "rngs=rngs"]
    if layer.kind is LayerKind.BRANCHED_CONV:
        return [*outside, str(layer.kernel), source, target, *dtypes, "rngs=rngs"]
    if layer.kind is LayerKind.DEPTHWISE:
        return [*outside, source, f"kernel_size={layer.kernel}", *dtypes]
    return [*outside, source, *dtypes]


def _call(plan: Plan, body: Sequence[Statement]) -> list[str]:
    lines = ["    def __call__(self, x: jax.Array) -> jax.Array:"]
    if plan.graph.length_dependent:
        lines += [
            "        if x.shape[1] != self.length:",
            '            raise ValueError(f"this block was built for length {self.length}, not {x.shape[1]}")',
        ]
    lines += ["        if self.dtype is not None:", "            x = x.astype(self.dtype)"]
    if not body:
        return [*lines, "        return x"]
    sizes = Counter(section(plan.graph.nodes[step.node]) for step in plan.steps)
    current = ""
    for order, statement in enumerate(body):
        here = section(plan.graph.nodes[statement.node])
        if here and here != current and sizes[here] >= SMALLEST_SECTION:
            lines += ["", f"        # {_comment(plan, here)}"]
        elif here != current and current and not here:
            lines.append("")
        current = here
        last = order == len(body) - 1
        lines.append(f"        return {statement.text}" if last else f"        {statement.name} = {statement.text}")
    return lines


def _comment(plan: Plan, here: str) -> str:
    title = docstring_text(re.sub(r"_(\d+)$", r" \1", here).replace("_", " "))[:60].strip().capitalize() or "Section"
    for step in plan.steps:
        node = plan.graph.nodes[step.node]
        if section(node) == here and node.scope and node.value.kind is Kind.ACTIVATION:
            branches = [plan.graph.scopes[scope] for scope in node.scope]
            shape = ", ".join(map(str, branches))
            many = " x ".join(map(str, branches))
            return f"{title}, in {many} branches: [batch, {shape}, length, {width_expression(node.value)}]."
    return f"{title}."


def _helpers(code: str) -> list[str]:
    """Classes and functions that the code uses, or that those use."""
    return [text for name, text in {**FUNCTIONS, **CLASSES}.items() if _uses(code, name)]


def _uses(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\b", code) is not None


def _imports(code: str) -> list[str]:
    lines = ["import functools", ""] if _uses(code, "functools") else []
    lines += ["import jax", "import jax.numpy as jnp", "from flax import nnx"]
    if _uses(code, "promote_dtype"):
        lines.append("from flax.nnx.nn.dtypes import promote_dtype")
    return [*lines, "from jax.typing import DTypeLike"]


def _sizes(graph: Graph, unit: int, length: int | None) -> str:
    count = parameter_count(graph, unit, length)
    at = f"width {MODEL_WIDTH * unit}" + (f" and length {length}" if graph.length_dependent else "")
    return (
        f"{count:,} parameters at {at}, where it was exported. Other widths work too; the numbers in the code are "
        "those of the program and do not follow the width."
    )
