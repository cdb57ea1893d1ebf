"""Effects of edits: gains over parents, totals by kind of edit, and the tree of the best candidates."""

__all__ = [
    "edit_gains",
    "edit_kind_totals",
    "lineage_tree",
]
