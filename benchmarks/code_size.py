"""Size of code in logical lines: statements without docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["lines_used", "logical_lines"]


def logical_lines(file: Path) -> int:
    """Return the number of statements in a file, without docstrings."""
    return _statements(_parsed(file))


def lines_used(file: Path, name: str) -> int:
    """Return the number of statements of a class and of all names of the package that it uses, in any file.

    Imports are not counted, because most of them exist only to spread the class over several files.
    """
    found: set[tuple[Path, str]] = set()
    waiting, lines = {(file, name)}, 0
    while waiting:
        one, wanted = waiting.pop()
        found.add((one, wanted))
        for node in _parsed(one).body:
            if isinstance(node, ast.ImportFrom) and node.level and wanted in _bound(node):
                assert node.module is not None
                imported = one.parents[node.level - 1].joinpath(*node.module.split(".")).with_suffix(".py")
                waiting.add((imported, wanted))
            elif wanted in _bound(node) and not isinstance(node, ast.Import | ast.ImportFrom):
                lines += _statements(node)
                waiting |= {(one, inner.id) for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        waiting -= found
    return lines


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _statements(tree: ast.AST) -> int:
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sum(not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)) for one in statements)


def _bound(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
