"""A session, which is one start or resumption of a search: its initial programs, and its output on the console."""

__all__ = ["load_initial_programs", "run_search", "session"]
