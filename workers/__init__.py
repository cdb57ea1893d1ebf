"""Training of candidates under a budget: settings (`config`), requests and evaluations (`protocol`).

`data` turns text into batches, `devices` finds accelerators, `training` runs one trial, and `executors` runs many.
"""

__all__ = ["config", "data", "devices", "executors", "protocol", "training"]
