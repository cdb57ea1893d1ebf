"""Parts that the drawings share: the SVG element, edges, and letters on colored squares.

All parts have the text color of the page, so drawings can be read on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from .layered_layout import Point

__all__ = ["CHARACTER", "DASHES", "EDGE", "chip", "coordinate", "edge_path", "group", "svg_element"]

CHARACTER = 7.25
"""Width of a character in pixels, at a font size of 12 pixels. Monospaced fonts differ little."""

EDGE = 'fill="none" stroke="currentColor" stroke-opacity="0.6" stroke-width="1.2"'
DASHES = ' stroke-dasharray="4 3"'
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_OWN_COLOR = "<style>svg{color:#1f2933}@media(prefers-color-scheme:dark){svg{color:#e6e9ec}}</style>"


def svg_element(parts: Iterable[str], width: float, height: float, title: str, standalone: bool = False) -> str:
    """Return a drawing as an SVG element.

    Args:
        parts: elements of the drawing.
        width, height: size of the drawing in pixels.
        title: name of the drawing, for screen readers.
        standalone: whether the drawing is a separate file; it then has its own text color, for light and dark themes.
    """
    size = f'width="{coordinate(width)}" height="{coordinate(height)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {coordinate(width)} {coordinate(height)}"'
            f' role="graphics-document" aria-label="{escape(title)}" font-family="{_FONT}" font-size="12"'
            ' fill="currentColor">',
            *([_OWN_COLOR] if standalone else []),
            f"<title>{escape(title)}</title>",
            *parts,
            "</svg>",
        ]
    )


def edge_path(route: Sequence[Point], arrow: bool = True, dashed: bool = False) -> str:
    """Return an edge: vertical next to nodes, curved between rows."""
    steps = [f"M{coordinate(route[0].x)} {coordinate(route[0].y)}"]
    for before, after in pairwise(route):
        if before.x == after.x:
            steps.append(f"V{coordinate(after.y)}")
        else:
            middle = coordinate((before.y + after.y) / 2)
            end = f"{coordinate(after.x)} {coordinate(after.y)}"
            steps.append(f"C{coordinate(before.x)} {middle} {coordinate(after.x)} {middle} {end}")
    if arrow:
        steps.append("m-3.5 -5 3.5 5 3.5 -5")
    return f'<path d="{"".join(steps)}" {EDGE}{DASHES if dashed else ""}/>'


def chip(letter: str, color: str, x: float, y: float) -> list[str]:
    """Return a white letter on a colored square of 16 pixels."""
    return [
        f'<rect x="{coordinate(x)}" y="{coordinate(y)}" width="16" height="16" rx="4" fill="{color}"/>',
        f'<text x="{coordinate(x + 8)}" y="{coordinate(y + 12)}" text-anchor="middle" fill="#fff" font-weight="700">'
        f"{escape(letter)}</text>",
    ]


def group(parts: Iterable[str], x: float, y: float) -> str:
    """Return elements moved by (x, y)."""
    return "\n".join([f'<g transform="translate({coordinate(x)} {coordinate(y)})">', *parts, "</g>"])


def coordinate(value: float) -> str:
    """Return a number with at most one decimal.

    >>> coordinate(12.0), coordinate(0.25)
    ('12', '0.2')
    """
    return f"{value:.1f}".removesuffix(".0")
