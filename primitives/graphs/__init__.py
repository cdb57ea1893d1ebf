"""Canonical graphs of programs, and what follows from them: outputs, parameters, fingerprint, cost, decode state."""

__all__ = [
    "canonical",
    "cost",
    "decode_state",
    "fingerprint",
    "graph",
    "idioms",
    "interpreter",
    "line_costs",
    "parameters",
    "query_scales",
    "rewrites",
    "softmax_patterns",
]
