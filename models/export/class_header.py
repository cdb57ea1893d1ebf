"""The beginnings of exported classes, up to `__call__`: docstring, arguments, checks, layers, room for decoding."""

from __future__ import annotations

from ...primitives.value_types import Kind
from .classes import ExportedClass
from .constructors import API, STATEFUL, layer_statements, size_arguments
from .formatting import call_lines, docstring_text
from .names import unnumbered
from .plan import ExportPlan
from .sizes import SizeExpressions

__all__ = ["class_head"]


def class_head(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API, flax_norms: bool) -> list[str]:
    """The lines of a class before its `__call__`."""
    layers = layer_statements(plan, one, sizes, api, flax_norms)
    if one.part is None:
        return _nnx_block(plan, one, sizes, layers) if api == "nnx" else _linen_block(plan, one, sizes, layers)
    return _nnx_part(plan, one, sizes, layers) if api == "nnx" else _linen_part(plan, one, sizes, layers)


# --- parts ------------------------------------------------------------------------------------------------------


def _nnx_part(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    arguments = ["self", *(f"{name}: int" for name in size_arguments(one, sizes)), "*", "dtype: DTypeLike | None"]
    return [
        f"class {one.name}(nnx.Module):",
        f'    """{_part_title(plan, one, sizes)}"""',
        "",
        *call_lines("def __init__", [*arguments, "param_dtype: DTypeLike", "rngs: nnx.Rngs"], " -> None:", 4),
        *layers,
        "",
    ]


def _linen_part(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    return [
        f"class {one.name}(nn.Module):",
        f'    """{_part_title(plan, one, sizes)}"""',
        "",
        *(f"    {name}: int" for name in size_arguments(one, sizes)),
        "    dtype: DTypeLike | None = None",
        "    param_dtype: DTypeLike = jnp.float32",
        "",
        "    def setup(self) -> None:",
        *layers,
        "",
    ]


def _part_title(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions) -> str:
    assert one.part is not None
    title = docstring_text(unnumbered(one.part.label))[:60].strip() or "call"
    output = plan.graph.nodes[one.part.output].value
    source = plan.graph.nodes[one.part.inputs[0]].value if one.part.inputs else output
    plain = SizeExpressions(sizes.graph, sizes.counts)
    shapes = [f"[batch, length, {plain.last(value, ())}]" for value in (source, output)]
    if Kind.SCORES in (source.kind, output.kind):
        return f"What the program calls {title}."
    result = "the same" if shapes[0] == shapes[1] else f"`{shapes[1]}`"
    return f"What the program calls {title}: `{shapes[0]}` to {result}."


# --- the block --------------------------------------------------------------------------------------------------


def _nnx_block(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    arguments = ["self", *_fields(plan, one, sizes), "*", "dtype: DTypeLike | None = None"]
    arguments += ["param_dtype: DTypeLike = jnp.float32", "rngs: nnx.Rngs"]
    kept = ["width", *(["length"] if plan.graph.length_dependent else []), "dtype", "param_dtype"]
    return [
        f"class {one.name}(nnx.Module):",
        *_block_docstring(plan, one, sizes, "nnx"),
        *call_lines("def __init__", arguments, " -> None:", 4),
        *_checks(plan, one, sizes),
        f"        {', '.join(f'self.{name}' for name in kept)} = {', '.join(kept)}",
        *layers,
        "",
        *_init_cache(plan, one),
        "",
    ]


def _linen_block(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, layers: list[str]) -> list[str]:
    return [
        f"class {one.name}(nn.Module):",
        *_block_docstring(plan, one, sizes, "linen"),
        *(f"    {field}" for field in _fields(plan, one, sizes)),
        "    dtype: DTypeLike | None = None",
        "    param_dtype: DTypeLike = jnp.float32",
        "",
        "    def __post_init__(self) -> None:",
        *_checks(plan, one, sizes),
        "        super().__post_init__()",
        "",
        *(["    def setup(self) -> None:", *layers, ""] if layers else []),
    ]


def _fields(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions) -> list[str]:
    """Sizes that a block is built for."""
    defaults = {sizes.counts[scope]: sizes.default(scope) for scope in one.scopes}
    names = size_arguments(one, sizes)
    return [f"{name}: int = {defaults[name]}" if name in defaults else f"{name}: int" for name in names]


def _block_docstring(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API) -> list[str]:
    plain = SizeExpressions(sizes.graph, sizes.counts)
    multiple = " and of ".join(plain.divisors())
    lines = [
        '    """A decoder block: `[batch, length, width]` to the same; stack it between embedding and head.',
        "",
        "    Args:" if api == "nnx" else "    Attributes:",
        f"        width: channels of its input and output{f', a multiple of {multiple}' if multiple else ''}.",
    ]
    if plan.graph.length_dependent:
        lines.append("        length: positions in a sequence; this block works at one length only.")
    for scope in one.scopes:
        noun = sizes.counts[scope]
        default = sizes.default(scope)
        lines.append(f"        {noun}: how many {_called(plan, scope)} has side by side; {default} where it was found.")
    lines += [
        "        dtype: of the computation; None promotes inputs and parameters to a common one, as Flax does.",
        "        param_dtype: of the parameters.",
        *(["        rngs: source of the initial parameters."] if api == "nnx" else []),
        '    """',
        "",
    ]
    return lines


def _called(plan: ExportPlan, scope: int) -> str:
    for node in plan.graph.nodes:
        if scope in node.scope and len(node.labels) > 1:
            return docstring_text(unnumbered(node.labels[0]))[:40].strip() or "part"
    return "part"


def _checks(plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions) -> list[str]:
    """Sizes that cannot be are refused where the block is made."""
    names = size_arguments(one, sizes)
    smallest = f"min({', '.join(f'{sizes.prefix}{name}' for name in names)})" if names[1:] else f"{sizes.prefix}width"
    listed = ", ".join(f"{name} = {{{sizes.prefix}{name}}}" for name in names)
    lines = [f"        if {smallest} < 1:", *_raised(f"sizes must be at least 1: {listed}")]
    for divisor in sizes.divisors():
        grouped = f"({divisor})" if " " in divisor else divisor
        shown = "{" + divisor + "}" if not divisor.isdigit() else divisor
        why = f" ({divisor.removeprefix('self.')})" if not divisor.isdigit() else ""
        message = f"width must be a multiple of {shown}{why}, not {{{sizes.prefix}width}}"
        lines += [f"        if {sizes.prefix}width % {grouped}:", *_raised(message)]
    return lines


def _raised(message: str) -> list[str]:
    return call_lines("raise ValueError", [f'f"{message}"'], "", 12)


def _init_cache(plan: ExportPlan, one: ExportedClass) -> list[str]:
    head = "    def init_cache(self, input_shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> None:"
    if not one.decodes:
        return [head, '        """Nothing is kept: each position is computed by itself."""']
    lines = [
        head,
        '        """Make room to decode with `decode=True`; `input_shape` is `(batch, longest, width)`."""',
        "        if len(input_shape) != 3 or input_shape[2] != self.width or min(input_shape) < 1:",
        '            raise ValueError(f"input_shape must be (batch, longest, {self.width}), not {tuple(input_shape)}")',
        "        batch, longest, _ = input_shape",
    ]
    if plan.graph.length_dependent:
        lines += [
            "        if longest != self.length:",
            '            raise ValueError(f"this block was built for length {self.length}, not {longest}")',
        ]
    return [
        *lines,
        "        for _, part in nnx.iter_modules(self):",
        f"            if isinstance(part, {' | '.join(_keepers(one))}):",
        "                part.init_cache(batch, longest, dtype)",
    ]


def _keepers(block: ExportedClass) -> list[str]:
    """The classes of what decoding keeps something in."""
    classes = [block, *block.classes.values()]
    kinds = {layer.kind for one in classes for _, layer in one.layers}
    histories = ["History"] * any(one.body.caches for one in classes)
    return ["Position", *histories, *(name for kind, name in STATEFUL.items() if kind in kinds)]
