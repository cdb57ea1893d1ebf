"""One session of a search: the programs it starts from, its start and its end, and its display on the console."""

__all__ = ["load_initial_programs", "run_search", "session"]
