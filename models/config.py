"""Shape of the language model that candidate blocks are trained in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from ..primitives.value_types import MODEL_WIDTH

__all__ = ["STRICT", "ModelConfig"]

STRICT: dict[str, Any] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}
"""Validation settings of the configs, which pydantic reads when they are loaded."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Decoder-only language model: tied embedding, positions, `layers` equal blocks, final norm.

    Attributes:
        layers: number of stacked blocks.
        unit: channels in one unit of relative width; the model is 8 units wide.
        length: tokens in a training sequence.
        vocabulary: number of token ids.
        precision: dtype of activations; parameters and losses stay float32.
        stack: layers one after the other (`unroll`), in a loop (`scan`), or as measured best (`auto`).
        length_dependent: whether to allow ops that tie a block to one sequence length.
        parameter_cap: largest number of parameters of a candidate, as a multiple of the baseline's.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    layers: Annotated[int, Ge(1), Le(256)] = 2
    unit: Annotated[int, Ge(1), Le(1024)] = 8
    length: Annotated[int, Ge(8), Le(65536)] = 128
    vocabulary: Annotated[int, Ge(257), Le(262144)] = 1024
    precision: Literal["float32", "bfloat16"] = "float32"
    stack: Literal["auto", "unroll", "scan"] = "auto"
    length_dependent: bool = False
    parameter_cap: Annotated[float, Ge(1.0)] = 1.2

    @property
    def width(self) -> int:
        """Channels of the block's input and output (d_model)."""
        return MODEL_WIDTH * self.unit
