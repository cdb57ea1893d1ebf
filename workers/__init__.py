"""Training of candidates under a budget.

`config` holds the settings, and `protocol` the requests and evaluations of trials. `data` turns text into batches,
`devices` finds accelerators, `training` runs one trial, and `executors` run many.
"""

__all__ = ["config", "data", "devices", "executors", "protocol", "training"]
