"""The graph of a program as plain data: nodes and edges, for drawing and for other libraries."""

from __future__ import annotations

from typing import Any

from ..primitives.graphs.graph import INPUT, Graph
from ..primitives.graphs.parameters import parameter_specs
from ..primitives.ops.value_types import Kind

__all__ = ["program_graph"]


def program_graph(graph: Graph, unit: int, length: int | None = None) -> dict[str, Any]:
    """Return a canonical program as JSON values.

    Args:
        graph: canonical program.
        unit: channels in one unit of width.
        length: sequence length; needed only if the program is tied to one length.

    Returns:
        The lists `nodes` and `edges`, and `output`, the id of the node that is the result. A node has `id`, `op`,
        `label` (names of the subprograms and of the instruction), `kind` (activation, scores or scalar), `channels`
        (None unless an activation), `constant` (None without one), `branches` (number of parallel copies) and
        `parameters` (shapes by name). An edge has `source`, `target` and `operand` (0 or 1).

    >>> from primer_search import library
    >>> from primer_search.primitives import build_graph
    >>> data = program_graph(build_graph(library.get("PRIMER_EZ")), unit=8)
    >>> data["nodes"][0]["op"], len(data["nodes"]), len(data["edges"])
    ('INPUT', 40, 48)
    """
    parameters: dict[int, dict[str, list[int]]] = {}
    for spec in parameter_specs(graph, unit, length):
        parameters.setdefault(spec.node, {})[spec.name] = list(spec.shape)
    nodes, edges = [], []
    for number, node in enumerate(graph.nodes):
        width = node.value.width if node.value.kind is Kind.ACTIVATION else None
        branches = 1
        for scope in node.scope:
            branches *= graph.scopes[scope]
        nodes.append(
            {
                "id": number,
                "op": node.op,
                "label": "input" if node.op == INPUT else "/".join(node.labels) or node.op,
                "kind": node.value.kind.value,
                "channels": None if width is None else int(width * unit),
                "constant": node.constant,
                "branches": branches,
                "parameters": parameters.get(number, {}),
            }
        )
        edges += [{"source": source, "target": number, "operand": place} for place, source in enumerate(node.inputs)]
    return {"nodes": nodes, "edges": edges, "output": len(nodes) - 1}
