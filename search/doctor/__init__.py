"""Self-test of this installation: its environment, and the leak checks, which must refuse leaky programs and blocks."""

__all__ = ["checks", "environment", "leaky_blocks", "leaky_programs", "probe_harness", "refusals"]
