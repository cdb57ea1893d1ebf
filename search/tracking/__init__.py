"""Experiment trackers: a search as runs of TensorBoard, Weights & Biases or MLflow.

A tracker reads the run store, so it can follow a search or log a finished one, and it can continue where it stopped.
During a search it is a separate process. If it fails, hangs or crashes, the search is not affected.
"""

__all__ = [
    "events_to_trials",
    "follow_run",
    "mlflow_tracker",
    "tensorboard_tracker",
    "tracked_records",
    "tracker",
    "tracker_names",
    "tracker_process",
    "wandb_tracker",
]
