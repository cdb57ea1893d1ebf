"""Language models that compile in a second."""

from __future__ import annotations

from typing import Any

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.programs import library

VOCABULARY = 300


def small_model(program: str | DNA, **changes: Any) -> LanguageModel:
    """A model of two layers of 16 channels, of a program or one of the library; `changes` are of its configuration."""
    shape = {"layers": 2, "unit": 2, "length": 8, "vocabulary": VOCABULARY, "length_dependent": True}
    config = ModelConfig(**(shape | changes))
    dna = library.get(program, config.unit) if isinstance(program, str) else program
    return language_model(build_graph(dna), config)
