"""Class headers: everything before `__call__`, namely docstring, arguments, checks, layers and `init_cache`."""

from __future__ import annotations

from collections.abc import Iterator

from ...primitives.ops.op_table import OPS
from ...primitives.ops.value_types import Kind
from .classes import ExportedClass
from .constructors import layer_statements, size_arguments
from .formatting import call_lines, docstring_text
from .plan.names import subprogram_name
from .plan.sizes import SizeExpressions
from .plan.steps import STATEFUL_LAYERS, ExportPlan, Layer, LayerKind
from .plan.submodules import Submodule
from .runtime_source import API

__all__ = ["class_header"]

FIELDS = ["    dtype: DTypeLike | None = None", "    param_dtype: DTypeLike = jnp.float32", ""]
"""Fields that every Linen module has."""


def class_header(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API, flax_norms: bool) -> list[str]:
    """Return the lines of a class before its `__call__`."""
    layers = layer_statements(plan, one, sizes, api, flax_norms)
    base = "nnx.Module" if api == "nnx" else "nn.Module"
    if one.submodule is None:
        docstring = _block_docstring(plan, one, sizes, api)
        rest = _nnx_block(plan, one, sizes, layers) if api == "nnx" else _linen_block(one, sizes, layers)
    else:
        docstring = [f'    """{_submodule_title(plan, one, sizes)}"""', ""]
        rest = _nnx_submodule(one, sizes, layers) if api == "nnx" else _linen_submodule(one, sizes, layers)
    return [f"class {one.name}({base}):", *docstring, *rest]


# --- submodules -------------------------------------------------------------------------------------------------


def _nnx_submodule(one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    arguments = ["self", *(f"{name}: int" for name in size_arguments(one, sizes)), "*", "dtype: DTypeLike | None"]
    arguments += ["param_dtype: DTypeLike", "rngs: nnx.Rngs"]
    return [*call_lines("def __init__", arguments, " -> None:", 4), *layers, ""]


def _linen_submodule(one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    fields = [f"    {name}: int" for name in size_arguments(one, sizes)]
    return [*fields, *FIELDS, "    def setup(self) -> None:", *layers, ""]


def _submodule_title(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions) -> str:
    assert one.submodule is not None
    name = docstring_text(subprogram_name(one.submodule.label))[:60].strip() or "call"
    output = plan.graph.nodes[one.submodule.output].value
    source = plan.graph.nodes[one.submodule.inputs[0]].value if one.submodule.inputs else output
    if Kind.SCORES in (source.kind, output.kind):
        return f"The {name} of the program."
    unprefixed = SizeExpressions(sizes.graph, sizes.counts)
    shapes = [f"[batch, length, {unprefixed.last(value, ())}]" for value in (source, output)]
    result = "the same shape" if shapes[0] == shapes[1] else f"`{shapes[1]}`"
    return f"The {name} of the program: `{shapes[0]}` to {result}."


# --- the block --------------------------------------------------------------------------------------------------


def _nnx_block(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    arguments = ["self", *_size_fields(one, sizes), "*", "dtype: DTypeLike | None = None"]
    arguments += ["param_dtype: DTypeLike = jnp.float32", "rngs: nnx.Rngs"]
    stored = ["width", *["length"] * plan.graph.length_dependent, "dtype", "param_dtype"]
    return [
        *call_lines("def __init__", arguments, " -> None:", 4),
        *_size_checks(one, sizes),
        f"        {', '.join(f'self.{name}' for name in stored)} = {', '.join(stored)}",
        *layers,
        "",
        *_init_cache(plan, one),
        "",
    ]


def _linen_block(one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    return [
        *(f"    {field}" for field in _size_fields(one, sizes)),
        *FIELDS,
        "    def __post_init__(self) -> None:",
        *_size_checks(one, sizes),
        "        super().__post_init__()",
        "",
        *(["    def setup(self) -> None:", *layers, ""] if layers else []),
    ]


def _size_fields(one: ExportedClass, sizes: SizeExpressions) -> list[str]:
    """Return the declarations of the block's size arguments."""
    defaults = {sizes.counts[scope]: sizes.graph.scopes[scope] for scope in one.scopes}
    names = size_arguments(one, sizes)
    return [f"{name}: int = {defaults[name]}" if name in defaults else f"{name}: int" for name in names]


def _block_docstring(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API) -> list[str]:
    multiple = " and of ".join(SizeExpressions(sizes.graph, sizes.counts).divisors())
    lines = [
        '    """A decoder block: `[batch, length, width]` to the same shape; stack it between embedding and head.',
        "",
        "    Args:" if api == "nnx" else "    Attributes:",
        f"        width: channels of its input and output{f', a multiple of {multiple}' if multiple else ''}.",
    ]
    if plan.graph.length_dependent:
        lines.append("        length: sequence length; the block works at this length only.")
    for scope in one.scopes:
        argument = sizes.counts[scope]
        noun = "heads" if argument.startswith("heads") else "parallel branches"
        of_call = f"{noun} of {_call_around(plan, scope)}"
        lines.append(f"        {argument}: number of {of_call}; {plan.graph.scopes[scope]} in the program.")
    lines += [
        "        dtype: dtype of the computation; None promotes inputs and parameters to a common one, as Flax does.",
        "        param_dtype: dtype of the parameters.",
        *(["        rngs: random streams for the initial parameters."] if api == "nnx" else []),
        '    """',
        "",
    ]
    return lines


def _call_around(plan: ExportPlan, scope: int) -> str:
    for node in plan.graph.nodes:
        if scope in node.scope and len(node.labels) > 1:
            return docstring_text(subprogram_name(node.labels[0]))[:40].strip() or "a part"
    return "a part"


def _size_checks(one: ExportedClass, sizes: SizeExpressions) -> list[str]:
    """Return the statements that refuse impossible sizes when the block is constructed."""
    names = size_arguments(one, sizes)
    lines = call_lines("check_sizes", [f"{name}={sizes.prefix}{name}" for name in names], "", 8)
    for divisor in sizes.divisors():
        grouped = f"({divisor})" if " " in divisor else divisor
        shown = "{" + divisor + "}" if not divisor.isdigit() else divisor
        why = f" ({divisor.removeprefix('self.')})" if not divisor.isdigit() else ""
        message = f"width must be a multiple of {shown}{why}, not {{{sizes.prefix}width}}"
        lines += [f"        if {sizes.prefix}width % {grouped}:", *_raised(message)]
    return lines


def _raised(message: str, interpolated: bool = True) -> list[str]:
    return call_lines("raise ValueError", [f'{"f" * interpolated}"{message}"'], "", 12)


def _init_cache(plan: ExportPlan, one: ExportedClass) -> list[str]:
    head = "    def init_cache(self, input_shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> None:"
    if not one.is_stateful:
        return [head, '        """Do nothing, since each position is computed separately, without a cache."""']
    lines = [
        head,
        '        """Allocate the cache for calls with `decode=True`; `input_shape` is `(batch, longest, width)`."""',
        "        if len(input_shape) != 3 or input_shape[2] != self.width or min(input_shape) < 1:",
        '            raise ValueError(f"input_shape must be (batch, longest, {self.width}), not {tuple(input_shape)}")',
        *_stack_check(one),
        "        batch, longest, _ = input_shape",
    ]
    if plan.graph.length_dependent:
        lines += [
            "        if longest != self.length:",
            '            raise ValueError(f"this block was built for length {self.length}, not {longest}")',
        ]
    return [
        *lines,
        "        for _, part in nnx.iter_graph(self):",
        f"            if isinstance(part, {' | '.join(_stateful_classes(one))}):",
        "                part.init_cache(batch, longest, dtype)",
    ]


def _stack_check(block: ExportedClass) -> list[str]:
    """Return the statements that refuse a stack made by `nnx.vmap`, in which parameters have an additional axis."""
    parameters = sorted(_parameters(block), key=lambda found: "norm" in found[0])  # Flax's norms may have no scale
    if not parameters:
        return []
    name, axes = parameters[0]
    remedy = "nnx.vmap(lambda block: block.init_cache(input_shape))(blocks)"
    return [
        f"        if self.{name}.ndim != {axes}:",
        *_raised(f"this is a stack of blocks; use {remedy}", interpolated=False),
    ]


def _parameters(one: ExportedClass) -> Iterator[tuple[str, int]]:
    """Yield the attribute of a learned array of each layer of a class, and its number of axes."""
    for item in one.items:
        if isinstance(item, Submodule):
            for name, axes in _parameters(one.classes[item.output]):
                yield f"{one.attributes[item.output]}.{name}", axes
        elif item.layer is not None and item.layer.learned:
            yield _parameter(one.attributes[item.node], item.layer)


def _parameter(name: str, layer: Layer) -> tuple[str, int]:
    """Return the attribute of the first learned array of a layer, and its number of axes."""
    source, target = len(layer.source_scope) + 1, len(layer.scope) + 1
    learned = OPS[layer.ops[0]].parameters[0]
    if layer.kind is LayerKind.VECTOR:
        return name, target
    axes = source + target if layer.kind is LayerKind.LINEAR else len(layer.scope) + len(learned.shape)
    return f"{name}.{learned.name}", axes


def _stateful_classes(block: ExportedClass) -> list[str]:
    """Return the runtime classes that keep decoding state in the block."""
    classes = [block, *block.classes.values()]
    kinds = {layer.kind for one in classes for _, layer in one.layers}
    histories = ["History"] * any(one.body.caches for one in classes)
    return ["Position", *histories, *(name for kind, name in STATEFUL_LAYERS.items() if kind in kinds)]
