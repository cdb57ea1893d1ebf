"""The operating system: processor identity, file locks, atomic files, process pools, signals and captured output.

Nothing here knows about programs, models or searches.
"""

__all__ = ["files", "host", "locks", "output_capture", "process_pool", "signals"]
