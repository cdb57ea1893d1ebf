"""The unit that puts a model inside a range of parameters, and the query scale that follows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.parameter_range import dna_at_unit, fitted_unit, parameters_at
from primer_search.primitives import InvalidProgramError, build_graph
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get

MODEL = ModelConfig(layers=2, unit=8, length=16, vocabulary=300)
PRIMER_EZ = build_graph(get("PRIMER_EZ", 8))
OWN = parameters_at(PRIMER_EZ, MODEL, 8)


def within(smallest: float, largest: float, model: ModelConfig = MODEL) -> ModelConfig:
    return replace(model, parameter_range=(int(smallest), int(largest)))


def test_without_a_range_and_inside_it_the_configured_unit_stays() -> None:
    assert fitted_unit(PRIMER_EZ, MODEL) is None
    assert fitted_unit(PRIMER_EZ, within(OWN, OWN)) is None


@pytest.mark.parametrize("factor", [0.1, 0.3, 0.6, 0.8, 1.3, 2.0, 5.0])
def test_a_model_outside_gets_the_nearest_unit_inside(factor: float) -> None:
    model = within(0.75 * factor * OWN, 1.25 * factor * OWN)
    smallest, largest = model.parameter_range
    sizes = {unit: parameters_at(PRIMER_EZ, MODEL, unit) for unit in range(1, 64)}
    inside = [unit for unit, size in sizes.items() if smallest <= size <= largest]
    nearest = min(inside, key=lambda unit: abs(unit - MODEL.unit))
    assert (fitted_unit(PRIMER_EZ, model) or MODEL.unit) == nearest


@pytest.mark.parametrize("factor", [1e-6, 0.9999, 1.0001])
def test_a_model_that_no_unit_puts_inside_is_refused(factor: float) -> None:
    with pytest.raises(InvalidProgramError, match="no other unit puts it between") as refusal:
        fitted_unit(PRIMER_EZ, within(factor * OWN, factor * OWN))
    assert refusal.value.reason == "parameters"


def test_units_at_which_a_width_is_not_whole_are_passed_over() -> None:
    halves = build_graph(
        assemble(
            {"main": "a = half h0 branches=16\nb = ADD a h0", "half": "c = CONV_1X1 h0 width=8"}, {"zero": 0.0}, (8,)
        )
    )
    with pytest.raises(InvalidProgramError, match=r"whole"):
        parameters_at(halves, MODEL, 7)
    size = parameters_at(halves, MODEL, 6)
    assert fitted_unit(halves, within(size, parameters_at(halves, MODEL, 8) - 1)) == 6


def test_query_scales_follow_the_unit_and_other_constants_do_not() -> None:
    assert dna_at_unit(get("PRIMER_EZ", 8), MODEL, 12) == get("PRIMER_EZ", 12)
    mutated = replace(get("PRIMER_EZ", 8), constants=tuple(0.7 * c for c in get("PRIMER_EZ", 8).constants))
    assert dna_at_unit(mutated, MODEL, 12) == mutated
    assert dna_at_unit(mutated, MODEL, None) is mutated
