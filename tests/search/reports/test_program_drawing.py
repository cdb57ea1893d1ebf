"""The drawing of programs: a layout without overlaps, the parts of the program, and signs for what differs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import LIBRARY, get
from primer_search.primitives.programs.program import DNA
from primer_search.search.evolution.vocabulary import PAPER
from primer_search.search.reports.figures.layered_layout import Layout, Link, Size, layered_layout
from primer_search.search.reports.figures.program_drawing import FAMILY_MARKS, draw_program
from primer_search.search.reports.figures.program_outline import Outline, OutlineNode, program_outline

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[Link]]:
    """Random acyclic graphs with nodes of many sizes."""
    count = draw(st.integers(1, 14))
    names = [f"n{number}" for number in range(count)]
    sizes = {name: Size(draw(st.floats(1, 300)), draw(st.floats(1, 200))) for name in names}
    pairs = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=30))
    links = [Link(names[min(pair)], names[max(pair)]) for pair in pairs if pair[0] != pair[1]]
    return sizes, links


def assert_readable(layout: Layout, sizes: dict[str, Size], links: list[Link]) -> None:
    for one, other in combinations(sizes, 2):
        first, second = layout.centers[one], layout.centers[other]
        beside = abs(first.x - second.x) >= (sizes[one].width + sizes[other].width) / 2 - 1e-6
        below = abs(first.y - second.y) >= (sizes[one].height + sizes[other].height) / 2 - 1e-6
        assert beside or below, f"{one} and {other} overlap"
    for link, route in zip(links, layout.routes, strict=True):
        assert all(lower.y > upper.y for upper, lower in pairwise(route)), f"{link} does not go down"
        assert route[0].y == pytest.approx(layout.centers[link.source].y + sizes[link.source].height / 2)
        assert route[-1].y == pytest.approx(layout.centers[link.target].y - sizes[link.target].height / 2)
    for name, center in layout.centers.items():
        assert center.x - sizes[name].width / 2 >= -1e-6
        assert center.x + sizes[name].width / 2 <= layout.width + 1e-6
        assert center.y + sizes[name].height / 2 <= layout.height + 1e-6


@given(graphs())
def test_no_two_nodes_overlap_and_every_edge_goes_down(graph: tuple[dict[str, Size], list[Link]]) -> None:
    sizes, links = graph
    assert_readable(layered_layout(sizes, links), sizes, links)


def test_an_edge_over_several_rows_passes_beside_the_nodes_between() -> None:
    sizes = {name: Size(100, 20) for name in "abcd"}
    links = [Link("a", "b"), Link("b", "c"), Link("c", "d"), Link("a", "d")]
    layout = layered_layout(sizes, links)
    for name in "bc":
        center = layout.centers[name]
        inside = [point for point in layout.routes[3] if abs(point.y - center.y) < 11]
        assert inside
        assert all(abs(point.x - center.x) >= 50 for point in inside)


def test_rows_are_ordered_to_avoid_crossings() -> None:
    sizes = {name: Size(40, 20) for name in ("top", "a", "b", "under_b", "under_a")}
    links = [Link("top", "a"), Link("top", "b"), Link("b", "under_b"), Link("a", "under_a")]
    centers = layered_layout(sizes, links).centers
    assert (centers["a"].x < centers["b"].x) == (centers["under_a"].x < centers["under_b"].x)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle through a, b"):
        layered_layout({"a": Size(1, 1), "b": Size(1, 1)}, [Link("a", "b"), Link("b", "a")])


# --- what is drawn ----------------------------------------------------------------------------------------------


def nodes_of(outline: Outline) -> Iterator[OutlineNode]:
    for node in outline.nodes:
        yield node
        if node.inside is not None:
            yield from nodes_of(node.inside)


def marks(dna: DNA, against: DNA) -> dict[str, str]:
    return {node.label: node.mark for node in nodes_of(program_outline(dna, against)) if node.mark}


def program(main: str, half: float = 0.5, subprograms: dict[str, str] | None = None) -> DNA:
    return assemble({"main": main, **(subprograms or {})}, {"zero": 0.0, "half": half}, (8, 16))


BASE = program("a = CONV_1X1 h0 width=8\nb = TANH a\nc = ADD b h0")


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", LIBRARY)
def test_every_library_program_is_drawn_as_well_formed_xml(name: str, everything: bool) -> None:
    root = ElementTree.fromstring(draw_program(get(name), title=name, everything=everything, standalone=True))
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert root.tag == f"{SVG}svg"
    assert titles[0] == name
    assert len(titles) > 5
    assert float(root.attrib["width"]) > 100


def test_every_family_has_a_letter_and_no_two_share_it() -> None:
    assert set(PAPER.families) <= set(FAMILY_MARKS)
    letters = [letter for letter, _ in FAMILY_MARKS.values()]
    assert len(set(letters)) == len(letters)


def test_what_differs_has_a_sign_and_a_sentence() -> None:
    child = program("a = CONV_1X1 h0 width=16\nb = TANH a\nd = SIN b\ne = CONV_1X1 d width=8\nc = ADD e h0")
    assert marks(BASE, BASE) == {}
    drawn = draw_program(child, BASE, title="child")
    assert ">+</text>" in drawn
    assert ">~</text>" in drawn
    assert "added: inserted" in drawn
    assert "changed: Change dimension from 8u to 16u" in drawn


def test_a_removed_instruction_is_drawn_in_its_old_place() -> None:
    child = program("a = CONV_1X1 h0 width=8\nc = ADD a h0")
    assert marks(child, BASE) == {"TANH": "removed"}
    edges = {(edge.source, edge.target, edge.removed) for edge in program_outline(child, BASE).edges}
    assert {("v2", "v3", True), ("v3", "v4", True), ("v2", "v4", False)} <= edges
    assert "line-through" in draw_program(child, BASE, title="child")


def test_an_instruction_that_nothing_reads_any_more_is_marked_and_one_that_never_mattered_is_not_drawn() -> None:
    child = program("a = CONV_1X1 h0 width=8\nb = TANH a\nd = SIN a\nc = ADD a h0")
    assert marks(child, BASE) == {"TANH": "removed", "ADD": "changed"}
    assert "SIN" not in {node.label for node in nodes_of(program_outline(child, BASE))}


def test_a_changed_constant_is_marked_where_it_is_read() -> None:
    old = program("a = C_MUL h0 constant=half\nb = MAX a constant=zero")
    new = program("a = C_MUL h0 constant=half\nb = MAX a constant=zero", half=0.7)
    assert marks(new, old) == {"C_MUL": "changed"}


def test_a_difference_in_a_subprogram_opens_it_and_marks_its_other_calls() -> None:
    texts = {"outer": "a = inner h0\nb = SIN a", "inner": "a = COS h0"}
    main = "a = outer h0\nb = outer a"
    old, new = program(main, subprograms=texts), program(main, subprograms=texts | {"inner": "a = COS h0\nb = TANH a"})
    outline = program_outline(new, old)
    first, second = (node for node in outline.nodes if node.label == "outer")
    assert first.inside is not None
    assert next(node for node in first.inside.nodes if node.label == "inner").inside is not None
    assert (first.mark, second.mark, second.inside) == ("", "changed", None)
    assert "as drawn at its first call" in second.about


def test_programs_with_little_in_common_are_drawn_without_signs() -> None:
    many = assemble({"main": "\n".join(f"a{i} = C_MUL h0 constant=c{i}" for i in range(16))},
                    {f"c{i}": i / 7 for i in range(16)}, (8,))  # fmt: skip
    other = assemble({"main": "a = C_MUL h0 constant=half"}, {"half": 0.123}, (8, 16))
    draw_program(other, many, title="other")


def test_the_text_of_a_program_stays_text() -> None:
    named = program("a = <b>&x h0\nb = SIN a", subprograms={"<b>&x": "a = COS h0\nb = TANH a"})
    assert "&lt;b&gt;&amp;x" in draw_program(named, title="<i>")
