"""One run: its directory, its SQLite store, the controller that trains candidates, and the accounting of its time."""

__all__ = [
    "calibration",
    "connection",
    "controller",
    "loss_floor",
    "lost_trials",
    "provenance",
    "records",
    "run_directory",
    "run_settings",
    "schema",
    "store",
    "store_reader",
    "time_accounting",
    "trainer_factory",
]
