"""Shape of the language model that candidate blocks are trained in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from ..primitives.ops.least_squares import SOLVE_STEPS
from ..primitives.ops.value_types import MODEL_WIDTH
from ..primitives.programs.library import get
from ..primitives.programs.program import DNA

__all__ = ["STRICT", "ModelConfig"]

STRICT: dict[str, Any] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}
"""Pydantic settings for the validation of the config classes when they are loaded."""

MOST_UNROLLED = 8
"""Largest number of layers that `stack = "auto"` compiles one by one (benchmarks/peer_step.py)."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a decoder-only language model: tied embedding, positions, `layers` blocks of one kind, final norm.

    Attributes:
        layers: number of stacked blocks.
        unit: number of channels in one unit of width; d_model is 8 units.
        heads: number of attention heads of library programs, such as the baseline.
        length: tokens in a training sequence.
        vocabulary: number of token ids.
        precision: dtype of activations; parameters and losses stay float32.
        stack: compilation of the layers: one copy for each layer (`unroll`), one loop (`scan`), or `auto`, which is a
            loop for more than eight layers. With `auto`, brief AdamW trainings on one CPU (at most 1e12 FLOPs and a
            million parameters, in a known number of steps) are compiled layer by layer for any number of layers
            (`workers.training.steps.brief`).
        fused: whether norms and softmaxes are computed in one call, equal to their primitives up to rounding.
        solve_steps: largest number of conjugate-gradient steps for the systems of LEAST_SQUARES. A system stops earlier
            once it is solved, and at the latest after twice as many steps as it has channels. Without `fused`, the
            systems are solved exactly, which needs more memory.
        length_dependent: whether to allow ops that tie a block to one sequence length.
        parameter_cap: upper limit of a candidate's parameters, as a multiple of the baseline's.
        parameter_range: smallest and largest number of parameters of a candidate, instead of the cap. A candidate
            outside the range is trained at another unit (see `models.parameter_range`). Empty: no range, and
            candidates keep the unit.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    layers: Annotated[int, Ge(1), Le(256)] = 2
    unit: Annotated[int, Ge(1), Le(1024)] = 8
    heads: Literal[1, 2, 4, 8, 16] = 8
    length: Annotated[int, Ge(8), Le(65536)] = 128
    vocabulary: Annotated[int, Ge(257), Le(262144)] = 1024
    precision: Literal["float32", "bfloat16"] = "float32"
    stack: Literal["auto", "unroll", "scan"] = "auto"
    fused: bool = True
    solve_steps: Annotated[int, Ge(1), Le(1000)] = SOLVE_STEPS
    length_dependent: bool = False
    parameter_cap: Annotated[float, Ge(1.0)] = 1.2
    parameter_range: tuple[Annotated[int, Ge(1)], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameter_range", tuple(self.parameter_range))  # JSON has lists only

    @property
    def width(self) -> int:
        """Channels of the block's input and output (d_model)."""
        return MODEL_WIDTH * self.unit

    @property
    def scanned(self) -> bool:
        """Whether the layers are compiled as one loop. A loop compiles faster; separate layers have faster steps."""
        return self.stack == "scan" or (self.stack == "auto" and self.layers > MOST_UNROLLED)

    def most_parameters(self, baseline: float) -> float:
        """Return the largest number of parameters that a candidate may have, given the number of the baseline."""
        return self.parameter_range[-1] if self.parameter_range else baseline * self.parameter_cap

    def library_program(self, name: str) -> DNA:
        """Return a program of the library with this model's number of heads, and the query scale for its width."""
        return get(name, self.unit, self.heads)
