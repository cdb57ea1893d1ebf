"""The operating system: host, cache folder, files, locks, processes, signals, captured output, error texts, durations.

Nothing here knows about programs, models or searches.
"""

__all__ = [
    "cache_folder",
    "durations",
    "error_text",
    "files",
    "host",
    "locks",
    "output_capture",
    "process_pool",
    "signals",
]
