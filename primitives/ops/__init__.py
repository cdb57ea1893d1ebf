"""Primitive ops: the table, the arithmetic of each op, its value types and shapes."""

__all__ = [
    "extended_ops",
    "least_squares",
    "op",
    "op_arithmetic",
    "op_formats",
    "op_table",
    "value_types",
]
