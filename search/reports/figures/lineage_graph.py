"""The lineage of the best candidates drawn as SVG: one card for each candidate, ancestors above children."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ...evolution.candidate import BASELINE_ID, candidate_name
from ...results.edits.edit_gains import EditGain
from ...results.edits.lineage_tree import LineageTree, TreeNode
from ..candidate_details import short_mutation
from ..formatting import format_number
from .layered_layout import Link, Size, layered_layout
from .svg_parts import DASHES, chip, edge_path, group, svg_element

__all__ = ["format_edit", "format_gain", "lineage_graph"]

CARD = Size(216.0, 66.0)
MARGIN = 8.0
CHARACTERS = 28
"""Longest text of an edit on a card, in characters; the title of the card has the whole sentence."""

BLUE = "#2563a8"


def lineage_graph(tree: LineageTree, address: Callable[[int], str] | None = None, standalone: bool = False) -> str:
    """Return the drawing of a tree.

    Args:
        tree: the tree.
        address: URL of a candidate's page; None draws no links.
        standalone: whether the drawing is a separate file; it then has its own text color, for light and dark themes.
    """
    sizes = {str(node.id): CARD for node in tree.nodes}
    edges = [(parent, node, place) for node in tree.nodes for place, parent in enumerate(node.parents)]
    layout = layered_layout(sizes, [Link(str(parent), str(node.id)) for parent, node, _ in edges])
    parts = [edge_path(route, dashed=place > 0) for (_, _, place), route in zip(edges, layout.routes, strict=True)]
    for node in tree.nodes:
        center = layout.centers[str(node.id)]
        card = group(_card(node, tree), center.x - CARD.width / 2 + MARGIN, center.y - CARD.height / 2 + MARGIN)
        parts.append(card if address is None else f'<a class="plain" href="{escape(address(node.id))}">{card}</a>')
    moved = group(parts[: len(edges)], MARGIN, MARGIN)
    title = "Ancestors of the best candidates, and the gain of each edit"
    elements = [moved, *parts[len(edges) :]]
    return svg_element(elements, layout.width + 2 * MARGIN, layout.height + 2 * MARGIN, title, standalone)


def format_gain(gain: EditGain | None) -> str:
    """Format a gain in bits per byte, or in nats if bytes are unknown; None becomes a dash."""
    if gain is None:
        return "–"
    return f"{gain.bits_per_byte:+.4f}" if gain.bits_per_byte is not None else f"{gain.nats:+.4f} nats"


def format_edit(node: TreeNode, tree: LineageTree) -> str:
    """Return the last edit of a candidate in short form, or the origin of an initial program."""
    if node.id in tree.initial_programs:
        return f"from {tree.initial_programs[node.id]}"
    if node.id == BASELINE_ID:
        return "the start of the search"
    return short_mutation(node.mutations[-1]) if node.mutations else "a copy of its parent"


def _card(node: TreeNode, tree: LineageTree) -> list[str]:
    edit, gain = format_edit(node, tree), node.gain
    name = candidate_name(node.id)
    delta = None if node.row is None or node.id == BASELINE_ID else node.row.ranking_delta_bits_per_byte
    loss = "" if node.row is None else format_number(node.row.loss_nats)
    right = f"{delta:+.4f}" if delta is not None else loss
    edit = f"{node.skipped:,} edits, then {edit}" if node.skipped else edit
    shown = edit if len(edit) <= CHARACTERS else f"{edit[: CHARACTERS - 1]}…"
    noise = ", inside the noise" if gain is not None and gain.inside_noise else ""
    outcome = (
        f"gain {format_gain(gain)}{noise}"
        if gain is not None
        else ("" if node.id == BASELINE_ID else "no full training")
    )
    best = node.place is not None
    frame = f'stroke="{BLUE}" stroke-width="2"' if best else 'stroke="currentColor" stroke-opacity="0.3"'
    about = [name, *node.mutations, *([f"place {node.place} of the best"] if best else []), outcome]
    dashes = DASHES if node.row is None or not node.row.comparable else ""
    opacity = "0.65" if noise or gain is None else "1"
    return [
        f"<title>{escape('. '.join(filter(None, about)))}</title>",
        f'<rect width="{CARD.width:g}" height="{CARD.height:g}" rx="8" fill="currentColor" fill-opacity="0.05"'
        f" {frame}{dashes}/>",
        *(chip(str(node.place), BLUE, 8.0, 7.0) if best else []),
        f'<text x="{32 if best else 12}" y="20" font-weight="700">{escape(name)}</text>',
        f'<text x="{CARD.width - 12:g}" y="20" text-anchor="end">{escape(right)}</text>',
        f'<text x="12" y="38" font-size="11">{escape(shown)}</text>',
        f'<text x="12" y="55" font-size="11" fill-opacity="{opacity}">{escape(outcome)}</text>',
    ]
