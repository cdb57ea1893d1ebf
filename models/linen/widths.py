"""What a module's parameters were made for."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array

from ..functional.checks import check_input

__all__ = ["check_width"]


def check_width(module: nn.Module, x: Array, layer: str, parameter: str) -> None:
    """Refuse an `x` that is not [batch, length, width], the width being that of a parameter's first axis, if made."""
    made = nn.meta.unbox(module.variables.get("params", {})).get(layer, {}).get(parameter)
    check_input(x, None if made is None else made.shape[0])
