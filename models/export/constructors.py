"""Statements that construct layers, in both APIs: `self.key_projection = general(width, (heads, width // heads))`.

NNX layers take the sizes of their inputs as arguments. Linen layers infer them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...primitives.ops.op_table import OPS, DecodeState, Init
from .classes import ExportedClass
from .formatting import call_lines
from .plan.sizes import SizeExpressions
from .plan.steps import PLUGIN_LAYERS, STATEFUL_LAYERS, ExportPlan, Layer, LayerKind
from .plan.submodules import Submodule
from .runtime_source import API

__all__ = ["layer_statements", "size_arguments"]

EPSILON = "epsilon=1e-12"
"""Argument of Flax's norms, which add it to the variance; a program's norm divides by at least 1e-6."""

FLAX = {"nnx": "nnx", "linen": "nn"}
"""Name of each Flax API in the file."""

PARTIALS = {
    "nnx": {"linear": "nnx.Linear", "general": "nnx.LinearGeneral"},
    "linen": {"linear": "nn.Dense", "general": "nn.DenseGeneral"},
}
"""Classes of dense layers without branches (`linear`) and with branches (`general`)."""

OPTIONS = {
    "nnx": '{"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}',
    "linen": '{"dtype": self.dtype, "param_dtype": self.param_dtype}',
}


def layer_statements(
    plan: ExportPlan, one: ExportedClass, sizes: SizeExpressions, api: API, flax_norms: bool
) -> list[str]:
    """Return the statements that construct the layers of a class, in order."""
    made = ["        self.position = Position()"] if one.submodule is None and one.is_stateful else []
    for item in one.items:
        if isinstance(item, Submodule):
            inner = one.classes[item.output]
            arguments = [f"{sizes.prefix}{argument}" for argument in size_arguments(inner, sizes)]
            head = f"self.{one.attributes[item.output]} = {inner.name}"
            made += call_lines(head, [*arguments, "**options"], "", 8)
        elif item.layer is not None:
            made += _layer(one, one.attributes[item.node], item.layer, sizes, api, flax_norms)
    for attribute, node in one.body.caches.items():
        value, scope = plan.graph.nodes[node].value, plan.graph.nodes[node].scope
        made += call_lines(f"self.{attribute} = History", sizes.features(value, scope) if api == "nnx" else [], "", 8)
    return [*_shared(one, "\n".join(made), api), *made]


def size_arguments(one: ExportedClass, sizes: SizeExpressions) -> list[str]:
    """Return the names of the size arguments of a class."""
    takes_length = one.length_dependent or (one.submodule is None and sizes.graph.length_dependent)
    return ["width", *["length"] * takes_length, *(sizes.counts[scope] for scope in one.scopes)]


def _shared(one: ExportedClass, made: str, api: API) -> list[str]:
    """Return the statements for arguments that several layers of the class share."""
    partials = [name for name in PARTIALS[api] if f" {name}(" in made]
    lines = [f"        options: dict[str, Any] = {OPTIONS[api]}"] if partials or "**options" in made else []
    for name in partials:
        bias = [] if _all_biased(one, name) else ["use_bias=False"]
        arguments = [PARTIALS[api][name], *bias, "kernel_init=KERNEL_INIT", "**options"]
        lines += call_lines(f"{name} = functools.partial", arguments, "", 8)
    return lines


def _partial(layer: Layer) -> str:
    return "general" if layer.scope or layer.source_scope else "linear"


def _all_biased(one: ExportedClass, partial: str) -> bool:
    layers = [layer for _, layer in one.layers if layer.kind is LayerKind.LINEAR and _partial(layer) == partial]
    return all("SHIFT" in layer.ops for layer in layers)


def _layer(
    one: ExportedClass, name: str, layer: Layer, sizes: SizeExpressions, api: API, flax_norms: bool
) -> list[str]:
    source = sizes.features(layer.source, layer.source_scope)
    target = sizes.features(layer.target, layer.scope)
    if layer.kind is LayerKind.VECTOR:
        return _vector(name, layer, target, api)
    if layer.kind in (LayerKind.LAYER_NORM, LayerKind.RMS_NORM):
        callee, arguments = _norm(layer, source, api, flax_norms)
    elif layer.kind is LayerKind.LINEAR:
        callee, arguments = _dense(one, layer, source, target, api)
    else:
        callee, arguments = _other(layer, source, target, api)
    return call_lines(f"self.{name} = {callee}", arguments, "", 8)


def _norm(layer: Layer, source: Sequence[str], api: API, flax_norms: bool) -> tuple[str, list[str]]:
    given = list(source[-1:]) if api == "nnx" else []
    centred = layer.kind is LayerKind.LAYER_NORM
    names = {"SCALE": "use_scale", "SHIFT": "use_bias"}
    absent = [f"{name}=False" for op, name in names.items() if op not in layer.ops]
    if not flax_norms:
        return "GuardedNorm", [*given, f"centred={centred}", *absent, "**options"]
    if centred:
        return f"{FLAX[api]}.LayerNorm", [*given, EPSILON, "use_fast_variance=False", *absent, "**options"]
    return f"{FLAX[api]}.RMSNorm", [*given, EPSILON, *absent[:-1], "**options"]


def _dense(
    one: ExportedClass, layer: Layer, source: Sequence[str], target: Sequence[str], api: API
) -> tuple[str, list[str]]:
    partial = _partial(layer)
    axes = [f"axis=({', '.join(str(axis - len(source)) for axis in range(len(source)))})"] if source[1:] else []
    bias = ["use_bias=True"] if "SHIFT" in layer.ops and not _all_biased(one, partial) else []
    given = [_tuple(source)] if api == "nnx" else []
    return partial, [*given, _tuple(target), *axes, *bias]


def _other(layer: Layer, source: Sequence[str], target: Sequence[str], api: API) -> tuple[str, list[str]]:
    kind = layer.kind
    if kind in PLUGIN_LAYERS:
        return "LearnedFunction", _plugin_arguments(layer, source, target)
    if kind is LayerKind.BRANCHED_LINEAR:
        return f"{FLAX[api]}.Einsum", _einsum(layer, source, target, api)
    if kind is LayerKind.CONV:
        shape = _tuple([*target[:-1], str(layer.kernel), source[-1], target[-1]])
        given = [f"({source[0]},)" if len(source) == 1 else _tuple(source)] if api == "nnx" else []
        return STATEFUL_LAYERS[kind], [_equation(layer, "k"), *given, shape, "**options"]
    features = list(target) if api == "nnx" else []
    if kind is LayerKind.DEPTHWISE:
        return STATEFUL_LAYERS[kind], [*features, f"kernel_size={layer.kernel}", "**options"]
    if kind is LayerKind.LEAST_SQUARES:
        return STATEFUL_LAYERS[kind], [*features, "**options"]
    return STATEFUL_LAYERS[kind], features


LONGEST_ARRAYS = 100

STARTS = {Init.FAN_IN: "normal", Init.ONES: "ones", Init.ZEROS: "zeros"}
"""Initial values of the parameters of a plugin's op, by the names that the class `LearnedFunction` takes."""


def _plugin_arguments(layer: Layer, source: Sequence[str], target: Sequence[str]) -> list[str]:
    """Return the arguments of the layer for an op of a plugin: function, learned arrays and decoding state."""
    op, branches = OPS[layer.op], target[:-1]
    symbols = {"in": source[-1], "out": target[-1], "kernel": str(layer.kernel)}
    arrays = []
    for parameter in op.parameters:
        shape = [*branches, *(symbols[symbol] for symbol in parameter.shape)]
        arrays.append(f'"{parameter.name}": ("{STARTS[parameter.init]}", {_shape(shape)})')
    name = op.source.partition("(")[0]
    constant = f"functools.partial({name}, constant={layer.constant!r})" if op.uses_constant else name
    written = f"{{{', '.join(arrays)}}}"
    if len(written) > LONGEST_ARRAYS:
        written = "".join(["{\n", *(f"                {array},\n" for array in arrays), "            }"])
    arguments = [constant, written, *[f"branches={len(branches)}"] * bool(branches)]
    if layer.kind is LayerKind.PLUGIN_STATEFUL:
        arguments += [f"features={_shape([*branches, source[-1]])}"]
        arguments += [f"window={op.kernel - 1}" if op.decode_state is DecodeState.INPUTS else f"last={op.before_start}"]
    return [*arguments, "**options"]


def _shape(sizes: Sequence[str]) -> str:
    return f"({sizes[0]},)" if len(sizes) == 1 else _tuple(sizes)


def _einsum(layer: Layer, source: Sequence[str], target: Sequence[str], api: API) -> list[str]:
    """Return the arguments of an einsum that applies a separate dense layer in each branch."""
    axes = ", ".join(map(str, range(len(layer.scope)))) + ("," if len(layer.scope) == 1 else "")
    init = f'kernel_init={FLAX[api]}.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=({axes}))'
    shape = _tuple([*target[:-1], source[-1], target[-1]])
    if api == "nnx":
        return [_equation(layer), shape, init, "**options"]
    return [shape, _equation(layer), "use_bias=False", init, "**options"]


def _equation(layer: Layer, taps: str = "") -> str:
    """Return the equation of an einsum of inputs and kernel.

    b is the batch, t time, h, g, f and e are branches, k taps, i input channels and o output channels.
    """
    outer, inner = "hgfe"[: len(layer.scope)], "hgfe"[: len(layer.source_scope)]
    return f'"bt{inner}{taps}i,{outer}{taps}io->bt{outer}o"'


def _vector(name: str, layer: Layer, target: Sequence[str], api: API) -> list[str]:
    shape = f"({target[0]},)" if len(target) == 1 else _tuple(target)
    start = "ones" if layer.ops == ("SCALE",) else "zeros"
    if api == "nnx":
        return call_lines(f"self.{name} = nnx.Param", [f"jnp.{start}({shape}, param_dtype)"], "", 8)
    arguments = [f'"{name}"', f"nn.initializers.{start}", shape, "self.param_dtype"]
    return call_lines(f"self.{name} = self.param", arguments, "", 8)


def _tuple(sizes: Sequence[str]) -> str:
    return sizes[0] if len(sizes) == 1 else f"({', '.join(sizes)})"
