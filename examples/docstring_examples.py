"""Examples for `train --objective instruct`, from the functions of Python's standard library.

    python examples/docstring_examples.py > examples.jsonl

Each line is a JSON object with `inputs`, `targets` and `task`. The task `describe` asks for the one-line docstring of a
function, given its first line; the task `write` asks for the first line, given the docstring. Longer functions are left
out, so that an example fits into a sequence of 128 tokens.
"""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

MOST_CHARACTERS = 120
"""Largest number of characters of a docstring, and of a first line."""


def functions(source: str) -> Iterator[tuple[str, str]]:
    """Yield the first line and the docstring of each function that has both in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about escapes in strings of old modules
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            docstring, first = ast.get_docstring(node) or "", f"def {node.name}({ast.unparse(node.args)}):"
            if docstring and "\n" not in docstring and max(len(docstring), len(first)) <= MOST_CHARACTERS:
                yield first, docstring


def main() -> None:
    """Print the examples."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts or "lib2to3" in path.parts:
            continue
        try:
            found = list(functions(path.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError):
            continue  # some files are invalid on purpose, to test Python's parser
        for first, docstring in found:
            if (first, docstring) in seen:
                continue
            seen.add((first, docstring))
            for task, inputs, targets in (
                ("describe", f"Describe this function: {first}", docstring),
                ("write", f"Write the first line of a function: {docstring}", first),
            ):
                print(json.dumps({"task": task, "inputs": inputs, "targets": targets}))
    print(f"{len(seen)} functions", file=sys.stderr)


if __name__ == "__main__":
    main()
