"""Exported source as pure functions, whichever API it is written in: what `verify` runs."""

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
from .constructors import API

__all__ = ["ExportedFunctions", "load_source"]

Path = tuple[str, ...]
Arrays = Mapping[Path, Any]


def load_source(source: str) -> Callable[..., Any]:
    """Run exported text in a module of its own and give its block, the last class in it."""
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    if not classes:
        raise WorkFailedError("the exported source defines no class")
    module = ModuleType("exported_block")
    sys.modules[module.__name__] = module  # where dataclasses look for the names in annotations
    try:
        exec(compile(source, "exported_block.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module.__dict__[classes[-1]]


@dataclass(frozen=True, slots=True)
class ExportedFunctions:
    """An exported class at one size.

    Attributes:
        block: the class.
        api: of Flax.
        width: channels of its input and output.
        length: sequence length, None where the block is not tied to one.
    """

    block: Callable[..., Any]
    api: API
    width: int
    length: int | None

    def make(self, **options: Any) -> Any:
        """An instance."""
        tied = {} if self.length is None else {"length": self.length}
        rngs = {"rngs": nnx.Rngs(0)} if self.api == "nnx" else {}
        return self.block(self.width, **tied, **options, **rngs)

    def initial(self, length: int) -> dict[Path, jax.Array]:
        """The parameters that it starts with, drawn on a sequence of `length` where that matters."""
        if self.api == "nnx":
            state = nnx.state(self.make(), nnx.Param)
            return {_names(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}
        variables = self.make().init(jax.random.key(0), jnp.zeros((1, length, self.width)))
        flat: dict[Any, Any] = dict(flatten_dict(variables.get("params", {})))
        return {_names(path): leaf for path, leaf in flat.items()}

    def shapes(self, length: int) -> dict[Path, tuple[int, ...]]:
        """The shapes of its parameters, without drawing them: that would cost seconds of compilation."""
        return {path: leaf.shape for path, leaf in jax.eval_shape(lambda: self.initial(length)).items()}

    def apply(self, parameters: Arrays, x: jax.Array) -> jax.Array:
        """The block's output."""
        if self.api == "linen":
            return self.make(param_dtype=x.dtype).apply({"params": unflatten_dict(dict(parameters))}, x)
        return self._merged(parameters, x.dtype)(x)

    def decode(self, parameters: Arrays, x: jax.Array, pieces: Sequence[int]) -> jax.Array:
        """The block's output, computed in pieces of so many positions, with a cache for all of them."""
        cuts = np.cumsum(pieces)[:-1]
        if self.api == "nnx":
            block = self._merged(parameters, x.dtype)
            block.init_cache(x.shape, x.dtype)
            return jnp.concatenate([block(piece, decode=True) for piece in jnp.split(x, cuts, axis=1)], axis=1)
        block = self.make(param_dtype=x.dtype)
        cache = block.init(jax.random.key(0), x, decode=True).get("cache", {})
        outputs = []
        for piece in jnp.split(x, cuts, axis=1):
            variables = {"params": unflatten_dict(dict(parameters)), "cache": cache}
            output, changed = block.apply(variables, piece, decode=True, mutable=["cache"])
            cache = changed.get("cache", {})
            outputs.append(output)
        return jnp.concatenate(outputs, axis=1)

    def _merged(self, parameters: Arrays, dtype: Any) -> Any:
        graphdef, state = nnx.split(nnx.eval_shape(lambda: self.make(param_dtype=dtype)))
        flat = [(path, leaf.replace(parameters[_names(path)])) for path, leaf in nnx.to_flat_state(state)]
        return nnx.merge(graphdef, nnx.from_flat_state(flat))


def _names(path: Iterable[Any]) -> Path:
    return tuple(map(str, path))
