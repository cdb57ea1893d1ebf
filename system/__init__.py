"""The operating system: host, memory, cache folder, files, locks, processes, signals, output, error texts, durations.

Nothing here knows about programs, models or searches.
"""

__all__ = [
    "allocator",
    "cache_folder",
    "durations",
    "error_text",
    "files",
    "host",
    "locks",
    "orphans",
    "output_capture",
    "process_pool",
    "signals",
    "standard_streams",
]
