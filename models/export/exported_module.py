"""Exported source as pure functions of parameters and inputs, for either API; `verify` runs them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from ...primitives.errors import WorkFailedError
from .runtime_source import API

__all__ = ["ExportedFunctions", "load_source"]

Path = tuple[str, ...]
Arrays = Mapping[Path, Any]


def load_source(source: str) -> Callable[..., Any]:
    """Execute exported source in a new module and return its block, the last class in it."""
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    if not classes:
        raise WorkFailedError("the exported source defines no class")
    module = ModuleType("exported_block")
    sys.modules[module.__name__] = module  # dataclasses look up annotations there
    try:
        exec(compile(source, "exported_block.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module.__dict__[classes[-1]]


@dataclass(frozen=True, slots=True)
class ExportedFunctions:
    """Functions of an exported class at one size.

    Attributes:
        block: the class.
        api: Flax API.
        width: channels of input and output.
        length: sequence length; None if the block does not depend on it.
    """

    block: Callable[..., Any]
    api: API
    width: int
    length: int | None

    def make(self, **options: Any) -> Any:
        """Return an instance of the class."""
        length = {} if self.length is None else {"length": self.length}
        rngs = {"rngs": nnx.Rngs(0)} if self.api == "nnx" else {}
        return self.block(self.width, **length, **options, **rngs)

    def initial(self, length: int) -> dict[Path, jax.Array]:
        """Return the initial parameters; Linen draws them for a sequence of this length."""
        if self.api == "nnx":
            state = nnx.state(self.make(), nnx.Param)
            return {_names(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}
        variables = self.make().init(jax.random.key(0), jnp.zeros((1, length, self.width)))
        flat: dict[Any, Any] = dict(flatten_dict(variables.get("params", {})))
        return flat

    def shapes(self, length: int) -> dict[Path, tuple[int, ...]]:
        """Return the shapes of the parameters without drawing them, which would take seconds of compilation."""
        return {path: leaf.shape for path, leaf in jax.eval_shape(lambda: self.initial(length)).items()}

    def apply(self, parameters: Arrays, x: jax.Array, **given: Any) -> jax.Array:
        """Return the block's output; the keyword arguments `given` are passed to its call."""
        if self.api == "linen":
            return self.make(param_dtype=x.dtype).apply({"params": unflatten_dict(dict(parameters))}, x, **given)
        return self._merged(parameters, x.dtype)(x, **given)

    def decode(self, parameters: Arrays, x: jax.Array, pieces: Sequence[int], **given: Any) -> jax.Array:
        """Return the block's output, decoded with one cache in pieces of the lengths `pieces`."""
        cuts = np.cumsum(pieces)[:-1]
        if self.api == "nnx":
            block = self._merged(parameters, x.dtype)
            block.init_cache(x.shape, x.dtype)
            return jnp.concatenate([block(piece, decode=True, **given) for piece in jnp.split(x, cuts, axis=1)], axis=1)
        block = self.make(param_dtype=x.dtype)
        cache = block.init(jax.random.key(0), x, decode=True).get("cache", {})
        outputs = []
        for piece in jnp.split(x, cuts, axis=1):
            variables = {"params": unflatten_dict(dict(parameters)), "cache": cache}
            output, changed = block.apply(variables, piece, decode=True, mutable=["cache"], **given)
            cache = changed.get("cache", {})
            outputs.append(output)
        return jnp.concatenate(outputs, axis=1)

    def _merged(self, parameters: Arrays, dtype: Any) -> Any:
        graphdef, state = nnx.split(nnx.eval_shape(lambda: self.make(param_dtype=dtype)))
        flat = [(path, leaf.replace(parameters[_names(path)])) for path, leaf in nnx.to_flat_state(state)]
        return nnx.merge(graphdef, nnx.from_flat_state(flat))


def _names(path: Iterable[Any]) -> Path:
    return tuple(map(str, path))
