"""The dashboard: a local web server that shows runs in a browser, also while a search writes them.

A page is a module with a function `routes()`. A page turns a `Request` into a `Response` and does not depend on a web
server. Only the module `server` imports a web framework.
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
