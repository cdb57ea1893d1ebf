"""Tables, HTML pages, figures and progress displays of runs and studies."""

__all__ = [
    "candidate_details",
    "console",
    "figures",
    "formatting",
    "pages",
    "phrases",
    "progress",
    "tables",
]
