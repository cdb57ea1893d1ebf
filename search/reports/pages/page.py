"""Templates of the HTML pages, and a general page of a few tables with figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....primitives.errors import UsageError

__all__ = ["PagePart", "render_parts", "template", "try_page"]


@dataclass(frozen=True, slots=True)
class PagePart:
    """A part of a page.

    Attributes:
        heading: heading.
        rows: rows of the table, as text by title; all rows have the same titles.
        left: titles of the columns that are aligned to the left.
        notes: sentences below the table.
        figure: HTML of a figure above the table.
    """

    heading: str
    rows: Sequence[Mapping[str, str]] = ()
    left: Collection[str] = ()
    notes: Sequence[str] = ()
    figure: str = ""


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


def render_parts(command: str, title: str, headline: str, method: str, parts: Sequence[PagePart]) -> str:
    """Return a page with the results of a command about a trained model."""
    return template("model.html.j2").render(command=command, title=title, headline=headline, method=method, parts=parts)


def try_page(page: Path, write: Callable[[Path], None]) -> str:
    """Write a page and return its path. A failure returns its reason, so that the results are still printed."""
    try:
        write(page)
    except (UsageError, ModuleNotFoundError) as error:
        return f"not written: {error}"
    return str(page)
