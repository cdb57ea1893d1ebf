"""Templates of the HTML pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError

__all__ = ["template", "try_page"]


def template(name: str) -> Any:
    """Return a template, which escapes its values and raises an error for a missing one."""
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
    """Write a page and return its path, or the reason why it was not written, so that the results still appear."""
    try:
        write(page)
    except (UsageError, ModuleNotFoundError) as error:
        return f"not written: {error}"
    return str(page)
