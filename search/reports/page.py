"""The pages' templates, and a file written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError

__all__ = ["template", "try_page"]


def template(name: str) -> Any:
    """A template of this folder, which escapes what it is given and refuses names it is not given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def try_page(page: Path, write: Callable[[Path], None]) -> str:
    """Write a page; its place, or why there is none: no reason to withhold results."""
    try:
        write(page)
    except (UsageError, ModuleNotFoundError) as error:
        return f"not written: {error}"
    return str(page)
