"""One run: its directory, its SQLite store, the controller loop that trains candidates, and where its time goes."""

__all__ = [
    "connection",
    "controller",
    "loss_floor",
    "provenance",
    "records",
    "run_directory",
    "schema",
    "store",
    "time_accounting",
    "trainer_factory",
]
