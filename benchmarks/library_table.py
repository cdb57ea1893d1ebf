"""Table of the library for docs/library.md: each named program, its cost at the paper's size, and its decoding cost.

Parameters, operations and caches are computed from the programs. Times of decode steps are the last results of
benchmarks/decode_cost.py.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.cost import block_cost, model_parameters
from primer_search.primitives.graphs.decode_state import CacheSize, cache_size
from primer_search.primitives.ops.value_types import MODEL_WIDTH
from primer_search.primitives.programs.library import LIBRARY, LibraryProgram, get

__all__ = ["RESULTS", "decode_results", "library_markdown"]

PAPER_LAYERS, PAPER_LENGTH, PAPER_VOCABULARY = 6, 64, 32_768
"""The paper's language model (section 3): 6 layers, sequences of 64, an embedding of 32K tokens."""

WIDTH, CONTEXT, BATCH, CACHE_BYTES = 512, 512, 1, 2
"""Sizes of the decoding columns: channels, positions including the new one, sequences, bytes of a bfloat16."""

BASELINE = "TRANSFORMER"
MEASURED_AS = "DNABlock"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "decode_cost.json"
"""Results file of benchmarks/decode_cost.py."""

COLUMNS = {
    "program": "---",
    "what it is": "---",
    "parameters": "--:",
    "FLOPs a token and block": "--:",
    f"parameters of a block of width {WIDTH}": "--:",
    "cache a token": "--:",
    "decode step": "--:",
}

DecodeResults = Mapping[str, Any]
"""The parsed results file, with the keys `about`, `settings` and `steps`."""


def library_markdown(measured: DecodeResults | None = None) -> str:
    """Return the table in docs/library.md, with its caption.

    Args:
        measured: times of decode steps (`decode_results`), or None to mark them as not measured.
    """
    steps = _steps(measured)
    rows = [_row(COLUMNS), f"|{'|'.join(COLUMNS.values())}|"]
    rows += [_row(_cells(name, program, steps)) for name, program in LIBRARY.items()]
    return "\n".join([*rows, "", _caption(measured, steps)])


def decode_results(file: Path = RESULTS) -> DecodeResults | None:
    """Return the last results of benchmarks/decode_cost.py, or None if the file does not exist."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _cells(name: str, program: LibraryProgram, steps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    native = block_cost(build_graph(program.dna), program.native_unit, PAPER_LENGTH)
    parameters = model_parameters(native.parameters, program.native_unit, PAPER_LAYERS, PAPER_VOCABULARY)
    block = block_cost(build_graph(get(name, WIDTH // MODEL_WIDTH)), WIDTH // MODEL_WIDTH, PAPER_LENGTH)
    return [
        f"`{name}`",
        f"{program.description} ({program.reference})",
        f"{parameters:,}",
        f"{native.flops_per_token / 1e6:.2f} M",
        f"{block.parameters:,}",
        _cache(name),
        _step(name, steps),
    ]


def _cache(name: str) -> str:
    size, baseline = _cache_size(name), _cache_size(BASELINE)
    besides = f" + {CACHE_BYTES * size.fixed:,} B" if size.fixed else ""
    return f"{size.per_position / baseline.per_position:.2f} ({CACHE_BYTES * size.per_position:,} B){besides}"


def _cache_size(name: str) -> CacheSize:
    return cache_size(build_graph(get(name, WIDTH // MODEL_WIDTH)), WIDTH // MODEL_WIDTH, PAPER_LENGTH)


def _step(name: str, steps: Mapping[str, Mapping[str, Any]]) -> str:
    if name not in steps:
        return "not measured"
    ratio = steps[name]["ratio"]
    if name == BASELINE:
        return f"1 ({steps[name]['milliseconds']:.2f} ms)"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"


def _steps(measured: DecodeResults | None) -> dict[str, Mapping[str, Any]]:
    """Return the rows of the decode steps in the table, by program."""
    if measured is None or measured["settings"]["width"] != WIDTH:
        return {}
    shown = (MEASURED_AS, CONTEXT, BATCH)
    return {row["program"]: row for row in measured["steps"] if (row["kind"], row["context"], row["batch"]) == shown}


def _caption(measured: DecodeResults | None, steps: Mapping[str, Mapping[str, Any]]) -> str:
    cache = (
        f"Cache: bytes that decoding stores for each token in bfloat16 at width {WIDTH}, relative to the "
        "Transformer's; the number after the + counts bytes for each sequence, independent of its length."
    )
    step = (
        f"Decode step: time for one new token of one sequence, after {CONTEXT - 1} tokens, relative to the "
        "Transformer's"
    )
    if measured is None or not steps:
        return _filled(f"{cache} {step}: not measured yet; run `python benchmarks/decode_cost.py --write`.")
    about, settings = measured["about"], measured["settings"]
    return _filled(
        f"{cache} {step} (95% interval of the paired ratio). It was measured with a `{MEASURED_AS}` in "
        f"{settings['dtype']} by `{about['command']}` on {about['device']}, cores: {about['cores']}, "
        f"{about['clock']}, JAX {about['jax']}; there are also [other contexts and batches, and hand-written "
        "blocks](../benchmarks/results/decode_cost.txt)."
    )


def _filled(text: str) -> str:
    """Return a text in lines of at most 120 characters, with each code span on one line."""
    joined = re.sub(r"`[^`]+`", lambda span: span[0].replace(" ", "\0"), text)
    return textwrap.fill(joined, 120, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
