"""The op table as JSON rows, console lines and Markdown."""

from __future__ import annotations

from typing import Any

from .op_table import OPS, DecodeState, Op, PackedTexts

__all__ = ["format_op_lines", "format_op_markdown", "op_rows"]


def op_rows() -> list[dict[str, Any]]:
    """Return one JSON object per primitive."""
    return [
        {
            "name": op.name,
            "operands": op.operands,
            "constant": op.uses_constant,
            "dimension": op.uses_dimension,
            "parameters": [parameter.name for parameter in op.parameters],
            "kernel": op.kernel,
            "time": op.time_dependence.value,
            "keeps": op.decode_state.value,
            "packed_texts": op.packed_texts.value,
            "laws": sorted(law.value for law in op.laws),
            "summary": op.summary,
            "origin": op.origin,
            "reference": op.reference,
        }
        for op in OPS.values()
    ]


def format_op_lines() -> list[str]:
    """Return one line per primitive: its call, its summary, and its origin if that is not the paper."""
    width = max(len(_call(op)) for op in OPS.values())
    origins = {op.name: "" if op.origin == "paper" else f" [{op.origin}]" for op in OPS.values()}
    return [f"{_call(op):<{width}}  {op.summary}{origins[op.name]}" for op in OPS.values()]


def format_op_markdown() -> str:
    """Return the op table of docs/primitives.md."""
    head = "| primitive | learns | depends on | decoding keeps | between packed texts | what it does | from |"
    rows = [head, "|---|---|---|---|---|---|---|"]
    for op in OPS.values():
        learned = ", ".join(parameter.name for parameter in op.parameters) or "–"
        summary = op.summary.replace("|", "\\|")
        apart = "–" if op.packed_texts is PackedTexts.UNCHANGED else op.packed_texts.value
        kept = "–" if op.decode_state is DecodeState.NOTHING else op.decode_state.value
        rows.append(
            f"| `{_call(op)}` | {learned} | {op.time_dependence.value} | {kept} | {apart} | {summary} | {op.origin} |"
        )
    return "\n".join(rows)


def _call(op: Op) -> str:
    words = ["x", "y"][: op.operands]
    words += ["c"] * op.uses_constant + ["width"] * op.uses_dimension
    return f"{op.name}({', '.join(words)})"
