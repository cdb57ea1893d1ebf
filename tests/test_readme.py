"""The tables in docs/ are generated from the code, and up to date."""

from __future__ import annotations

from pathlib import Path

import primer_search
from primer_search.benchmarks.library_table import decode_results, library_markdown
from primer_search.primitives.op_table import format_op_markdown

DOCS = Path(primer_search.__file__).parent / "docs"


def test_the_table_of_primitives_is_the_op_table() -> None:
    assert format_op_markdown().strip() in (DOCS / "primitives.md").read_text(encoding="utf-8")


def test_the_table_of_programs_is_the_library() -> None:
    assert library_markdown(decode_results()) in (DOCS / "library.md").read_text(encoding="utf-8")
