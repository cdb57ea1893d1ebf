"""Choice of the search strategy of a run by the setting `search.strategy`."""

from __future__ import annotations

from collections.abc import Sequence

from ...primitives import DNA
from ..config import RunConfig
from ..evolution.evolution import Evolution
from ..evolution.initial_programs import InitialProgram
from ..evolution.search_strategy import SearchStrategy
from .guided_search import GuidedSearch

__all__ = ["GUIDED_STRATEGIES", "make_strategy"]

GUIDED_STRATEGIES = ("guided", "guided-random")


def make_strategy(
    config: RunConfig, run_seed: int, baseline_dna: DNA, initial_programs: Sequence[InitialProgram] = ()
) -> SearchStrategy:
    """Return a new strategy of the configured kind."""
    kind = GuidedSearch if config.search.strategy in GUIDED_STRATEGIES else Evolution
    return kind(config, run_seed, baseline_dna, initial_programs)
