"""Differences between programs: alignment, edits, their descriptions, and edits without effect."""

__all__ = [
    "change_descriptions",
    "diff_printer",
    "essential_changes",
    "instruction_alignment",
    "null_rewrite",
    "program_alignment",
    "program_diff",
]
