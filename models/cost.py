"""Size and cost of a language model whose blocks are a program: in total, and for each line of the program."""

from __future__ import annotations

from dataclasses import dataclass

from ..primitives import DNA, build_graph
from ..primitives.graphs.cost import block_cost, model_parameters
from ..primitives.graphs.line_costs import line_costs
from ..primitives.ops.value_types import MODEL_WIDTH
from ..primitives.programs.liveness import live_values
from ..primitives.programs.pretty_printer import format_instructions
from .config import ModelConfig

__all__ = ["ProgramLine", "logits_flops", "model_cost", "program_lines"]


@dataclass(frozen=True, slots=True)
class ProgramLine:
    """One instruction with its shapes and its cost in one block, over all calls of its subprogram.

    Attributes:
        subprogram: index of the subprogram.
        position: index of the instruction in the subprogram.
        text: the instruction as text.
        shapes: shapes of the value without the batch axis; L is the sequence length. Empty if the line never runs.
        calls: number of times that a block executes the line.
        parameters: number of learned scalars.
        flops_per_token: forward floating-point operations per position.
        share: fraction of the model's forward operations that the line takes in all blocks together. The model's
            operations include the output logits.
    """

    subprogram: int
    position: int
    text: str
    shapes: tuple[str, ...]
    calls: int
    parameters: int
    flops_per_token: float
    share: float


def model_cost(dna: DNA, model: ModelConfig, unit: int) -> dict[str, float]:
    """Return the parameters (`params`) and forward operations per token (`flops`) of the whole model.

    Raises:
        InvalidProgramError: a width is not a whole number of channels at this unit.
    """
    block = block_cost(build_graph(dna, length_dependent=model.length_dependent), unit, model.length)
    parameters = model_parameters(block.parameters, unit, model.layers, model.vocabulary)
    flops = model.layers * block.flops_per_token + logits_flops(model, unit)
    return {"params": float(parameters), "flops": flops}


def logits_flops(model: ModelConfig, unit: int) -> float:
    """Return the forward operations per token of the output logits."""
    return 2.0 * model.vocabulary * MODEL_WIDTH * unit


def program_lines(dna: DNA, model: ModelConfig, unit: int) -> tuple[ProgramLine, ...]:
    """Return the instructions of a program in order, with shapes and costs.

    The cost of a call is the cost of the lines that it runs.

    Raises:
        InvalidProgramError: a width is not a whole number of channels at this unit.
    """
    graph = build_graph(dna, length_dependent=model.length_dependent)
    block = block_cost(graph, unit, model.length)
    per_block = block.flops_per_token + logits_flops(model, unit) / model.layers
    costs, live = line_costs(dna, graph, unit, model.length), live_values(dna)
    return tuple(
        ProgramLine(
            index,
            position,
            text.strip(" ·"),
            tuple(cost.shapes),
            cost.calls,
            cost.parameters,
            cost.flops_per_token,
            cost.flops_per_token / per_block,
        )
        for index in range(len(dna.subprograms))
        for position, (text, cost) in enumerate(zip(format_instructions(dna, index, live), costs[index], strict=True))
    )
