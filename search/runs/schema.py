"""The run store's schema, as named migrations. Each is applied once, in order, in its own transaction.

To change the schema, append a migration. Never edit one that was released, since stores written by it exist. The number
of applied migrations is the schema version (`PRAGMA user_version`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MIGRATIONS", "Migration"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the schema.

    Attributes:
        name: readable name of the change.
        statements: SQL statements of the transaction.
        renamed_files: (old prefix, new prefix) of names of files in the run directory.
    """

    name: str
    statements: tuple[str, ...]
    renamed_files: tuple[tuple[str, str], ...] = ()


_EVENTS_ARE_NEVER_UPDATED = """CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"""


_RUN_STORE = Migration(
    "run_store",
    (
        "CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """CREATE TABLE candidates (
            id INTEGER PRIMARY KEY,
            dna TEXT NOT NULL,
            parent INTEGER REFERENCES candidates (id),
            mutations TEXT NOT NULL,
            structure_hash TEXT NOT NULL,
            same_as INTEGER REFERENCES candidates (id)
        )""",
        "CREATE INDEX candidates_by_structure ON candidates (structure_hash)",
        """CREATE TABLE trials (
            trial_id INTEGER PRIMARY KEY,
            candidate_id INTEGER NOT NULL REFERENCES candidates (id),
            seed INTEGER NOT NULL,
            hurdles TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'cancelled', 'lost'))
        )""",
        "CREATE INDEX trials_by_status ON trials (status)",
        # REPLACE deletes without firing delete triggers, so the third trigger below is needed.
        """CREATE TABLE events (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            wall_time REAL NOT NULL,
            kind TEXT NOT NULL,
            candidate_id INTEGER REFERENCES candidates (id),
            trial_id INTEGER REFERENCES trials (trial_id),
            payload TEXT NOT NULL
        )""",
        _EVENTS_ARE_NEVER_UPDATED,
        """CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        """CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
            WHEN EXISTS (SELECT 1 FROM events WHERE sequence = NEW.sequence)
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        # A loss is a finite number or absent: SQLite stores NaN as NULL, and the CHECK refuses infinities.
        """CREATE TABLE evaluations (
            trial_id INTEGER PRIMARY KEY REFERENCES trials (trial_id),
            candidate_id INTEGER NOT NULL REFERENCES candidates (id),
            sequence INTEGER NOT NULL UNIQUE REFERENCES events (sequence),
            outcome TEXT NOT NULL,
            loss_nats REAL CHECK (loss_nats IS NULL OR abs(loss_nats) <= 1.7976931348623157e308),
            evaluation TEXT NOT NULL
        )""",
        "CREATE INDEX evaluations_by_candidate ON evaluations (candidate_id)",
        "CREATE INDEX evaluations_by_outcome ON evaluations (outcome, loss_nats)",
    ),
)


def _renamed_key(table: str, column: str, old: str, new: str, where: str) -> str:
    """Return SQL that renames a key of JSON text; quotes inside its strings are escaped, so only keys match."""
    return f"""UPDATE {table} SET {column} = replace({column}, '"{old}":', '"{new}":') WHERE {where}"""


_BASELINE_AND_SCALES = Migration(
    "baseline_and_scales",
    (
        *(
            _renamed_key("run", "value", old, new, "key = 'config'")
            for old, new in (
                ("seed_program", "baseline"),
                ("seed_trials", "baseline_trials"),
                ("confirm_seeds", "confirm_repeats"),
            )
        ),
        "UPDATE run SET key = 'baseline_dna' WHERE key = 'seed_dna'",
        "UPDATE run SET key = 'initial_programs' WHERE key = 'founders'",
        _renamed_key("evaluations", "evaluation", "moved_nats", "moved_logits", "true"),
        "DROP TRIGGER events_are_never_updated",
        _renamed_key("events", "payload", "moved_nats", "moved_logits", "kind IN ('confirmed', 'climbed')"),
        _renamed_key("events", "payload", "rung", "scale", "kind = 'climbed'"),
        _renamed_key("events", "payload", "refitted", "rescaled", "kind = 'climbed'"),
        """UPDATE events SET payload = replace(payload, '"name":"seed"', '"name":"baseline"')
            WHERE kind IN ('confirmed', 'climbed') AND candidate_id = 0""",
        "UPDATE events SET kind = 'retrained_at_scale' WHERE kind = 'climbed'",
        _EVENTS_ARE_NEVER_UPDATED,
    ),
    renamed_files=(("rung-", "scale-"),),
)
"""Renames: seed to baseline, founders to initial programs, rung to scale, seeds to repeats."""

_UNIT_OF_CANDIDATES = Migration("unit_of_candidates", ("ALTER TABLE candidates ADD COLUMN unit INTEGER",))
"""Adds the unit of width that a candidate is trained at, if it is not the configured one."""

MIGRATIONS: tuple[Migration, ...] = (_RUN_STORE, _BASELINE_AND_SCALES, _UNIT_OF_CANDIDATES)
