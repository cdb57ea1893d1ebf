"""One run: its directory, its SQLite store, the controller (the search loop), and the accounting of time."""

__all__ = [
    "calibration",
    "connection",
    "controller",
    "controller_time",
    "loss_floor",
    "lost_trials",
    "progress_snapshot",
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
