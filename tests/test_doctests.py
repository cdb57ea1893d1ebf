"""Every example in a docstring runs, in the one copy of the package that everything else imports."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import primer_search

ROOT = Path(primer_search.__file__).parent
LAYERS = ("primitives", "models", "workers", "search", "configs", "interface")


def module_names() -> list[str]:
    """All modules of the package, by their dotted names."""
    files = [file for layer in LAYERS for file in ROOT.joinpath(layer).rglob("*.py")] + [*ROOT.glob("*.py")]
    dotted = {".".join(("primer_search", *file.relative_to(ROOT).with_suffix("").parts)) for file in files}
    return sorted(name.removesuffix(".__init__") for name in dotted if not name.endswith(".__main__"))


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples in {name} fail"


def test_the_finder_finds_examples() -> None:
    module = importlib.import_module("primer_search.system.durations")
    assert sum(len(test.examples) for test in doctest.DocTestFinder().find(module)) >= 2
