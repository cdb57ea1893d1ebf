"""The operating system: host, memory, folders, files, locks, processes, signals, output, and short texts.

Nothing here knows about programs, models or searches.
"""

__all__ = [
    "allocator",
    "durations",
    "error_text",
    "files",
    "host",
    "locks",
    "orphans",
    "output_capture",
    "plurals",
    "process_pool",
    "signals",
    "standard_streams",
    "user_folders",
]
