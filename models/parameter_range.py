"""Choice of a program's unit of width, so that its number of parameters is in a range (So et al. 2021, section 3).

A program is stored for the configured unit, which the baseline has too. If the parameters of its model are outside
`model.parameter_range`, the program is trained at the nearest unit inside the range. All its widths and its query
scales change with the unit.
"""

from __future__ import annotations

from ..primitives import DNA, Graph, InvalidProgramError
from ..primitives.graphs.cost import model_parameters
from ..primitives.graphs.parameters import parameter_count
from ..primitives.graphs.query_scales import rescale_queries
from .config import ModelConfig

__all__ = ["dna_at_unit", "fitted_unit", "parameters_at"]


def parameters_at(graph: Graph, model: ModelConfig, unit: int) -> int:
    """Return the number of parameters of the whole model at a unit of width, without building it.

    Raises:
        InvalidProgramError: a width is not a whole number of channels at this unit.
    """
    block = parameter_count(graph, unit, model.length)
    return model_parameters(block, unit, model.layers, model.vocabulary)


def fitted_unit(graph: Graph, model: ModelConfig) -> int | None:
    """Return the unit nearest to the configured one that puts the model inside the range of parameters.

    None means the configured unit: no range is set, or the model is already inside the range. The number of parameters
    increases with the unit, so units are tried in one direction only. Units at which a width is not a whole number of
    channels are skipped.

    Raises:
        InvalidProgramError: no unit puts the model inside the range, or a width is not a whole number of channels at
            the configured unit.
    """
    if not model.parameter_range:
        return None
    smallest, largest = model.parameter_range
    own = parameters_at(graph, model, model.unit)
    if smallest <= own <= largest:
        return None
    step = 1 if own < smallest else -1
    unit, parameters = model.unit + step, own
    while unit >= 1 and (parameters < smallest if step > 0 else parameters > largest):
        try:
            parameters = parameters_at(graph, model, unit)
        except InvalidProgramError:
            pass  # branches divide a width, and the result is not a whole number at this unit
        else:
            if smallest <= parameters <= largest:
                return unit
        unit += step
    raise InvalidProgramError(
        "parameters",
        f"the model would have {own:,} parameters at unit {model.unit}, and no other unit puts it between "
        f"{smallest:,} and {largest:,}",
    )


def dna_at_unit(dna: DNA, model: ModelConfig, unit: int | None) -> DNA:
    """Return the program with the query scales of a unit of width; None means the configured unit.

    Args:
        dna: program whose constants are for the configured unit.
        model: configuration of the model.
        unit: unit of width that the program is trained at.
    """
    return dna if unit in (None, model.unit) else rescale_queries(dna, model.unit, unit)
