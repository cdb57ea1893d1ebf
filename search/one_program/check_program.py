"""Check of a DNA without training: whether it is valid, its identity and its cost.

The checks are the same as in a search, except that a program over the search's parameter cap is reported, not refused.
Sizes are given for the unit of width that a search would train the program at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ...models.config import ModelConfig
from ...models.parameter_range import fitted_unit
from ...primitives import DNA, Graph, InvalidProgramError, build_graph
from ...primitives.causality.causality_test import LENGTH, check_causality
from ...primitives.graphs.cost import block_cost, model_parameters
from ...primitives.graphs.fingerprint import fingerprint
from ...primitives.graphs.graph import smallest_unit
from ...primitives.graphs.parameters import parameter_count
from ..config import RunConfig

__all__ = ["Check", "check", "format_check"]

LARGEST_PROBE = 50_000_000
"""Largest number of parameters of a program at the size of the causality test; more of them could fill the memory."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check. Sizes are for the model of the configuration.

    Attributes:
        accepted: whether the program is valid.
        reason: reason for refusal in one word (see `InvalidProgramError`); None if accepted.
        message: reason for refusal in a sentence.
        structure_hash: hash of the canonical form; None if the program does not have one.
        fingerprint: hash of the function; None if the program is refused, or has no fingerprint.
        unit: unit of width that the program is trained at.
        parameters: parameters of the model.
        block_parameters: parameters of one block.
        flops_per_token: forward floating-point operations of one block, per token.
        parameter_cap: largest number of parameters of a candidate in a search with this configuration.
        length_dependent: whether the program is tied to one sequence length.
        nodes: number of nodes of the canonical graph.
    """

    accepted: bool
    reason: str | None = None
    message: str = ""
    structure_hash: str | None = None
    fingerprint: str | None = None
    unit: int | None = None
    parameters: int | None = None
    block_parameters: int | None = None
    flops_per_token: float | None = None
    parameter_cap: int | None = None
    length_dependent: bool | None = None
    nodes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that `check --json` prints."""
        return asdict(self)


def check(dna: DNA, config: RunConfig) -> Check:
    """Check a well-formed DNA as a search in this configuration would."""
    model = config.model
    known: dict[str, Any] = {"parameter_cap": _cap(config)}
    try:
        graph = build_graph(dna, length_dependent=model.length_dependent)
        known |= {
            "structure_hash": graph.structure_hash,
            "length_dependent": graph.length_dependent,
            "nodes": len(graph.nodes),
        }
        known["unit"] = fitted_unit(graph, model) or model.unit
        known |= _cost(graph, replace(model, unit=known["unit"]))
        _refuse_large_programs(graph)
        check_causality(graph)
        known["fingerprint"] = fingerprint(graph)
    except InvalidProgramError as error:
        return Check(False, error.reason, str(error), **known)
    return Check(True, **known)


def format_check(result: Check) -> list[str]:
    """Return the lines that `primer-search check` prints."""
    verdict = "accepted" if result.accepted else f"refused ({result.reason}): {result.message}"
    facts = {
        "structure": result.structure_hash,
        "fingerprint": result.fingerprint,
        "parameters": None if result.parameters is None else _sizes(result),
        "FLOPs": None if result.flops_per_token is None else f"{result.flops_per_token:,.0f} per token and block",
        "length": "tied to one sequence length" if result.length_dependent else None,
    }
    return [verdict, *(f"{name:<12} {value}" for name, value in facts.items() if value is not None)]


def _sizes(result: Check) -> str:
    sizes = f"{result.parameters:,} in the model, {result.block_parameters:,} per block, at unit {result.unit}"
    assert result.parameters is not None
    if result.parameter_cap is not None and result.parameters > result.parameter_cap:
        return f"{sizes}; a search allows at most {result.parameter_cap:,} in the model"
    return sizes


def _cost(graph: Graph, model: ModelConfig) -> dict[str, Any]:
    cost = block_cost(graph, model.unit, model.length)
    return {
        "parameters": model_parameters(cost.parameters, model.unit, model.layers, model.vocabulary),
        "block_parameters": cost.parameters,
        "flops_per_token": cost.flops_per_token,
    }


def _cap(config: RunConfig) -> int:
    model = config.model
    baseline = model.library_program(config.search.baseline)
    return int(model.most_parameters(_cost(build_graph(baseline, length_dependent=True), model)["parameters"]))


def _refuse_large_programs(graph: Graph) -> None:
    parameters = parameter_count(graph, smallest_unit(graph), LENGTH)
    if parameters > LARGEST_PROBE:
        raise InvalidProgramError(
            "parameters",
            f"it has {parameters:,} parameters at the size of the causality test, more than {LARGEST_PROBE:,}",
        )
