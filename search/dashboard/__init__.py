"""The dashboard: a local web server that shows runs in a browser, also while they are being written.

A page is a module with a function `routes()`; it turns a `Request` into a `Response` and knows nothing of the web
server. `server` is the only module that imports one.
"""

__all__ = [
    "candidate_checks",
    "candidate_files",
    "candidate_page",
    "candidate_source",
    "compare_runs_page",
    "edits_page",
    "leaderboard_page",
    "lineage_page",
    "overview_page",
    "progress_curve",
    "rendering",
    "requests",
    "routes",
    "served_run",
    "server",
]
