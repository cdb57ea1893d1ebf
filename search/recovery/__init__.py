"""Recovery of runs: audit of a store, repair of a damaged one, and deletion of leftovers."""

__all__ = ["audit", "clean", "page_reader", "reconcile", "repair"]
