"""Training of candidates under a budget.

`config` holds the settings, `protocol` the requests and evaluations of trials, and `price_prior` what a trial knows of
prices. `data` turns text into batches, `objectives` say what to learn from them, `devices` finds accelerators,
`training` runs one trial, and `executors` run many.
"""

__all__ = [
    "config",
    "data",
    "devices",
    "executors",
    "objectives",
    "position_buckets",
    "price_prior",
    "protocol",
    "training",
]
