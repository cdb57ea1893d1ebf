"""The operating system: the host, files, locks, processes, signals, captured output, error texts and durations.

Nothing here knows about programs, models or searches.
"""

__all__ = [
    "durations",
    "error_text",
    "files",
    "host",
    "locks",
    "output_capture",
    "process_pool",
    "signals",
]
