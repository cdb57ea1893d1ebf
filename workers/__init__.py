"""One candidate trained under one budget: `config` and `protocol` say what a trial is, asks and answers.

`data` turns text into batches, `devices` finds accelerators, `training` runs one trial, and `executors` run many.
"""

__all__ = ["config", "data", "devices", "executors", "protocol", "training"]
