"""Programs for tests of the exporter, and their exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from primer_search.models.export import API, ExportedSource, export_source
from primer_search.primitives import DNA, InvalidProgramError, build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import LIBRARY
from primer_search.tests.support.strategies import mutants, random_dna

LENGTH = 4
UNIT = 2

APIS = pytest.mark.parametrize("api", ["nnx", "linen"])

ATTENTION = assemble(
    {
        "main": "heads = attention h0 branches=2\nmixed = CONV_1X1 heads width=8\nsum = ADD mixed h0",
        "attention": "k = CONV_1X1 h0 width=8\nq = CONV_1X1 k width=8\nb = SHIFT q\nqk = T_MAT_MUL b k\n"
        "t = C_MUL qk constant=scale\ne = EXP t\nm = MASK e\ns = RED_SUM m\nw = DIVIDE m s\nr = MAT_MUL w k",
    },
    {"scale": 0.125},
    (8,),
)
"""A small attention with shared keys and values."""


def source_of(dna: DNA, unit: int = UNIT, name: str = "Block", api: API = "nnx") -> ExportedSource:
    """Return the unverified export of a program."""
    return export_source(dna, name=name, unit=unit, length=LENGTH, length_dependent=True, api=api)


def in_both_apis(argument: str, values: Iterable[Any], quick: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test by `argument` and the API; in Linen, values other than the `quick` ones are slow tests."""
    fast = list(quick)
    cases = [(value, "nnx") for value in values]
    cases += [
        (value, "linen") if value in fast else pytest.param(value, "linen", marks=pytest.mark.slow)  # type: ignore[misc]
        for value, _ in cases
    ]
    return pytest.mark.parametrize((argument, "api"), cases)


def small_program(main: str, width: int = 8, constants: Mapping[str, float] | None = None, **subprograms: str) -> DNA:
    """Return a program from lines of assembler text."""
    banks = constants or {"half": -0.5, "zero": 0.0}
    return assemble({"main": main, **subprograms}, banks, (width, 4, 16, 8), length_dependent=True)


def valid_programs(seed: int, count: int, mutate: bool) -> list[DNA]:
    """Return different valid programs with at least 6 nodes each."""
    rng = np.random.default_rng(seed)
    found: dict[str, DNA] = {}
    while len(found) < count:
        names = sorted(LIBRARY)
        start = LIBRARY[names[int(rng.integers(len(names)))]].dna
        dna = mutants(rng, start, int(rng.integers(4, 25)))[-1] if mutate else random_dna(rng, branches=(1, 1, 2, 4))
        try:
            graph = build_graph(dna, length_dependent=True)
            if len(graph.nodes) < 6 or smallest_unit(graph, UNIT) > UNIT:
                continue
            check_causality(graph)
        except InvalidProgramError:
            continue
        found[graph.structure_hash] = dna
    return list(found.values())
