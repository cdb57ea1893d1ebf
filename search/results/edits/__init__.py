"""Effects of edits: gains over parents, totals by kind of edit, and the tree of the best candidates."""

__all__ = ["edit_gains", "lineage_tree", "operator_totals"]
