"""A program drawn as a graph, as SVG text.

Data flows from the top down, and the first operand of an op enters on the left. Subprograms are boxes. A color and a
letter show the family of an op; a color and a sign show a difference from another program. The title of a node has
both in words, so the drawing can be read without colors. Lines and text have the text color of the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from ....primitives.programs.program import DNA
from .layered_layout import Link, Size, layered_layout
from .program_outline import Outline, OutlineEdge, OutlineNode, program_outline
from .svg_parts import CHARACTER, DASHES, EDGE, chip, coordinate, edge_path, group, svg_element

__all__ = ["FAMILY_MARKS", "draw_program"]

FAMILY_MARKS = {
    "arithmetic": ("±", "#52606d"),
    "matrix product": ("@", "#8b3fa8"),
    "function": ("f", "#b0601a"),
    "running": ("Σ", "#8a6d1c"),
    "reduction": ("R", "#0e7490"),
    "learned vector": ("v", "#4c51bf"),
    "constant": ("c", "#65731c"),
    "mask": ("M", "#7b5e57"),
    "dense": ("W", "#2563a8"),
    "convolution": ("C", "#be185d"),
    "depthwise convolution": ("D", "#a8234a"),
    "call": ("▸", "#66727f"),
    "other": ("?", "#52606d"),
}
"""Letter and color of each family of ops; white letters are readable on all of them. `other`: unknown ops."""

OWN_FAMILY = ("•", "#1f6f78")
"""Mark of all families that plugins add; the legend has their names."""

SIGNS = {"added": ("+", "#1b7a4b"), "changed": ("~", "#a8590b"), "removed": ("−", "#b3322a")}
"""Sign and color of each difference."""

HEIGHT, CHIP, PADDING, HEADER, MARGIN = 26.0, 18.0, 12.0, 28.0, 10.0
LEGEND_WIDTH = 460.0
LEGEND_ROW = 22.0


def draw_program(
    dna: DNA, against: DNA | None = None, *, title: str, everything: bool = False, standalone: bool = False
) -> str:
    """Return the drawing of a program as an SVG element.

    Args:
        dna: well-formed program.
        against: program whose differences are marked; None marks none.
        title: name of the drawing, for screen readers.
        everything: whether to draw all subprograms at their first call, not only those that MAIN calls or that differ.
        standalone: whether the drawing is a separate file; it then has its own text color, for light and dark themes.
    """
    outline = program_outline(dna, against, everything)
    body = _draw(outline)
    legend, legend_size = _legend(outline, max(body.width, LEGEND_WIDTH))
    width = max(body.width, legend_size.width) + 2 * MARGIN
    height = body.height + legend_size.height + 3 * MARGIN
    left = (width - body.width) / 2
    parts = [group(body.parts, left, MARGIN), group(legend, MARGIN, body.height + 2 * MARGIN)]
    return svg_element(parts, width, height, title, standalone)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A drawn outline: its size, its elements, and the x of its inputs and of its output.

    Attributes:
        inputs: x of `h0` and `h1`; the middle for an input that is not read.
        output: x of the output.
    """

    width: float
    height: float
    parts: list[str]
    inputs: tuple[float, float]
    output: float


def _draw(outline: Outline) -> _Drawn:
    boxes = {node.key: _draw(node.inside) for node in outline.nodes if node.inside is not None}
    sizes = {node.key: _size(node, boxes.get(node.key)) for node in outline.nodes}
    links = [_link(edge, outline, sizes, boxes) for edge in outline.edges]
    layout = layered_layout(sizes, links, last=outline.output)
    parts = [
        edge_path(route, arrow=edge.target != outline.output, dashed=edge.removed)
        for edge, route in zip(outline.edges, layout.routes, strict=True)
    ]
    for node in outline.nodes:
        center, size = layout.centers[node.key], sizes[node.key]
        x, y = center.x - size.width / 2, center.y - size.height / 2
        parts.append(group(_node(node, size, boxes.get(node.key)), x, y))
    middle = layout.width / 2
    inputs = tuple(layout.centers[key].x if key in layout.centers else middle for key in ("v0", "v1"))
    return _Drawn(layout.width, layout.height, parts, (inputs[0], inputs[1]), layout.centers[outline.output].x)


def _size(node: OutlineNode, box: _Drawn | None) -> Size:
    if box is not None:
        header = CHIP + 3 * PADDING + CHARACTER * len(_text(node)) + (CHIP if node.mark else 0.0)
        return Size(max(box.width + 2 * PADDING, header), box.height + HEADER + PADDING / 2)
    if node.family == "input":
        return Size(CHARACTER * len(node.label) + 14.0, 18.0)
    if node.family == "output":
        return Size(CHARACTER * len(node.label) + 14.0, 18.0) if node.label else Size(2.0, 1.0)
    return Size(CHIP + 16.0 + CHARACTER * len(_text(node)) + (CHIP if node.mark else 0.0), HEIGHT)


def _text(node: OutlineNode) -> str:
    return " ".join(filter(None, (node.name, node.label, node.detail)))


def _link(edge: OutlineEdge, outline: Outline, sizes: dict[str, Size], boxes: dict[str, _Drawn]) -> Link:
    """Return an edge with the x at which it leaves its source and enters its target."""
    source, target = boxes.get(edge.source), boxes.get(edge.target)
    leaves = enters = 0.0
    if source is not None:
        leaves = source.output - source.width / 2
    if target is not None and not edge.removed:
        enters = target.inputs[edge.port] - target.width / 2
    else:
        reader = next(node for node in outline.nodes if node.key == edge.target)
        if reader.operands == 2:
            enters = (edge.place - 0.5) * min(sizes[edge.target].width / 2, 44.0)
    return Link(edge.source, edge.target, leaves, enters)


def _node(node: OutlineNode, size: Size, box: _Drawn | None) -> list[str]:
    """Return the elements of a node; (0, 0) is its top left corner."""
    if node.family in ("input", "output"):
        return _terminal(node, size)
    sign, color = SIGNS.get(node.mark, ("", "currentColor"))
    outline = f'stroke="{color}" stroke-width="1.8"' if sign else 'stroke="currentColor" stroke-opacity="0.28"'
    dashes = DASHES if node.mark == "removed" else ""
    fill = 0.025 if box is not None else 0.06
    letter, family = FAMILY_MARKS.get(node.family, OWN_FAMILY)
    strike = ' text-decoration="line-through" fill-opacity="0.65"' if node.mark == "removed" else ""
    name = f'<tspan fill-opacity="0.7">{escape(node.name)} </tspan>' if node.name else ""
    detail = f'<tspan fill-opacity="0.75"> {escape(node.detail)}</tspan>' if node.detail else ""
    weight = ' font-weight="600"' if box is not None else ""
    return [
        f"<title>{escape(node.about)}</title>",
        _frame(size, 6, fill, f" {outline}{dashes}"),
        *chip(letter, family, 5.0, 5.0),
        f'<text x="{coordinate(CHIP + 10)}" y="17"{weight}{strike} xml:space="preserve">'
        f"{name}{escape(node.label)}{detail}</text>",
        *(chip(sign, color, size.width - CHIP - 3.0, 5.0) if sign else []),
        *(_inside(box, size) if box is not None else []),
    ]


def _frame(size: Size, radius: int, opacity: float, outline: str = "") -> str:
    width, height = coordinate(size.width), coordinate(size.height)
    shape = f'width="{width}" height="{height}" rx="{radius}"'
    return f'<rect {shape} fill="currentColor" fill-opacity="{opacity}"{outline}/>'


def _inside(box: _Drawn, size: Size) -> list[str]:
    """Return the subprogram in a box, and the line from its output to the edge of the box."""
    left, bottom = (size.width - box.width) / 2, HEADER + box.height
    line = f'<path d="M{coordinate(left + box.output)} {coordinate(bottom - 1)}V{coordinate(size.height)}" {EDGE}/>'
    return [group(box.parts, left, HEADER), line]


def _terminal(node: OutlineNode, size: Size) -> list[str]:
    """Return an input or an output, a label in a rounded frame; nothing for the output of a subprogram."""
    if not node.label:
        return []
    return [
        _frame(size, 9, 0.1),
        f'<text x="{coordinate(size.width / 2)}" y="13" text-anchor="middle">{escape(node.label)}</text>',
    ]


def _legend(outline: Outline, width: float) -> tuple[list[str], Size]:
    """Return the families and differences that occur, in rows of at most `width`."""
    nodes = list(_all_nodes(outline))
    families, marks = {node.family for node in nodes}, {node.mark for node in nodes}
    own = dict.fromkeys(sorted(families - {*FAMILY_MARKS, "input", "output"}), OWN_FAMILY)
    drawn = {name: mark for name, mark in FAMILY_MARKS.items() if name in families}
    entries = [(letter, color, name) for name, (letter, color) in (drawn | own).items()]
    entries = [(letter, color, "subprogram" if name == "call" else name) for letter, color, name in entries]
    entries += [(sign, color, mark) for mark, (sign, color) in SIGNS.items() if mark in marks]
    parts: list[str] = []
    x = y = used = 0.0
    for letter, color, name in entries:
        needed = 24.0 + CHARACTER * len(name) * 11 / 12 + 14.0
        if x and x + needed > width:
            x, y = 0.0, y + LEGEND_ROW
        text = f'<text x="22" y="12" font-size="11" fill-opacity="0.8">{escape(name)}</text>'
        parts.append(group([*chip(letter, color, 0.0, 0.0), text], x, y))
        x += needed
        used = max(used, x)
    return parts, Size(used, y + LEGEND_ROW if entries else 0.0)


def _all_nodes(outline: Outline) -> Iterable[OutlineNode]:
    for node in outline.nodes:
        yield node
        if node.inside is not None:
            yield from _all_nodes(node.inside)
