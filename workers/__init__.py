"""Training of candidates under a budget.

`config` holds the settings. `protocol` defines the requests and evaluations of trials. `price_prior` predicts the price
of a program during its trial. `data` turns text into batches, and `objectives` define what a model learns from text.
`devices` finds accelerators, `training` runs one trial, and `executors` run many trials.
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
