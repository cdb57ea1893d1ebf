"""Source text of each definition in `runtime/`, for exported files.

The definitions for least squares and for the refusal of float16 come from `models.functional`.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["API", "runtime_definitions"]

API = Literal["nnx", "linen"]


@cache
def runtime_definitions(api: API) -> dict[str, str]:
    """Return the source text of each constant, function and class by name, in the order of exported files."""
    definitions: dict[str, str] = {}
    here = Path(__file__).parent
    modules = (
        here.parent / "functional" / "least_squares.py",
        here.parent / "functional" / "refuse_float16.py",
        here / "runtime" / "functions.py",
        here / "runtime" / f"{api}_modules.py",
    )
    for module in modules:
        source = module.read_text(encoding="utf-8")
        lines, statements = source.splitlines(), ast.parse(source).body
        for statement, following in zip(statements, [*statements[1:], None], strict=True):
            last: ast.stmt = statement
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                name = statement.name
            elif isinstance(statement, ast.Assign) and isinstance(following, ast.Expr):
                name, last = ast.unparse(statement.targets[0]), following  # a constant and its docstring
            else:
                continue
            definitions[name] = "\n".join(lines[statement.lineno - 1 : last.end_lineno])
    return definitions
