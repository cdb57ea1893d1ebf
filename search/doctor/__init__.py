"""Self-test of the leak checks: programs and blocks that see the future, sent through every stage."""

__all__ = ["checks", "environment", "leaky_blocks", "leaky_programs", "probe_harness", "refusals"]
