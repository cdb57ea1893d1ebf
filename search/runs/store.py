"""The run store: one SQLite file with every candidate, trial and result of a run, in order of arrival.

The table `events` is append-only and complete. A run resumes by replaying it, which rebuilds the population, the
hurdles and the clock. The other tables hold the same facts in a form that is easy to query. An evaluation, its event
and its trial's status are written in one transaction, so a process killed at any moment leaves a run that can be read
and resumed. Write-ahead logging lets other processes read the run (leaderboard, show, report) while it is written.

A `Store` belongs to the thread that opened it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...plugins.loader import load_recorded
from ...primitives.errors import UsageError
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation, TrialRequest
from ..evolution.candidate import Candidate
from .connection import Connection, WriteGuard, check_complete, explain_errors, new_run_file, open_run_file
from .records import EVENT_KINDS, storable, to_json
from .run_directory import ControllerLock, RunDirectory, find_run
from .schema import MIGRATIONS, Migration
from .store_reader import StoreReader

__all__ = ["Store"]

_BUSY_SECONDS = 30.0


class Store(StoreReader):
    """A run's store, opened with `Store.create` or `Store.open`; a context manager that closes itself.

    Writing methods raise WorkFailedError, and change nothing, if the disk is full or another program locks the file.
    They raise ValueError for an impossible record (a candidate twice, a result of a trial that is not running).
    """

    def __init__(
        self, run: RunDirectory, connection: Connection, lock: ControllerLock | None, clock: Callable[[], float]
    ):
        super().__init__(run, connection)
        self._lock = lock
        self._clock = clock
        self._synchronous = "FULL"
        self._guard = WriteGuard(run, connection, lock)

    @classmethod
    def create(cls, path: Path | str, manifest: Mapping[str, Any], clock: Callable[[], float] = time.time) -> Store:
        """Create the store of a new run, with the event `run_started`, and open it for writing.

        Args:
            path: existing directory of the run.
            manifest: JSON values by name (config, seed, budget, dataset hash, versions, ...); `started_at` is added.
            clock: clock of the events, in seconds since the epoch.

        Raises:
            UsageError: the directory has a store, or another process writes it.
        """
        run = RunDirectory(Path(path))
        lock = ControllerLock(run)
        try:
            if run.store.exists():
                raise UsageError(f"{run.path} already holds a run: resume it with `primer-search resume {run.path}`")
            with new_run_file(run, _BUSY_SECONDS) as connection:
                store = cls(run, connection, None, clock)
                with store.transaction():  # one wait for the disk
                    store.migrate(MIGRATIONS)
                    store.set_manifest({"started_at": clock(), **manifest})
                    store.add_event("run_started")
        finally:
            lock.release()
        return cls.open(run.path, clock=clock, simulated="simulated" in manifest)

    @classmethod
    def open(
        cls,
        path: Path | str,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = _BUSY_SECONDS,
        migrations: tuple[Migration, ...] = MIGRATIONS,
        simulated: bool = False,
    ) -> Store:
        """Open the store of a run, and upgrade it if an earlier version wrote it.

        Args:
            path: name or path of the run (`find_run`).
            read_only: whether to only read, which is allowed while a controller writes.
            clock: clock of the events, in seconds since the epoch.
            busy_seconds: longest wait while another program keeps the file locked.
            migrations: migrations of the schema to upgrade to.
            simulated: whether to open a simulated run, whose results are invented.

        Raises:
            UsageError: the run does not exist, has a newer schema, is being written by another controller, or is
                simulated; or a plugin that the run uses cannot be loaded.
            WorkFailedError: the store is damaged, or has lost its last events.
        """
        run = find_run(path)
        lock = None if read_only else ControllerLock(run)
        with ExitStack() as undo:
            if lock is not None:
                undo.callback(lock.release)
            with explain_errors(run):
                if lock is not None:
                    check_complete(run, lock.last_event, busy_seconds)
                connection = open_run_file(run, read_only, busy_seconds)
            undo.callback(connection.close)
            store = cls(run, connection, lock, clock)
            store._check_schema(migrations)
            if lock is not None:
                store.migrate(migrations)
            elif store.schema_version < len(migrations):
                undo.close()
                cls.open(path, clock=clock, busy_seconds=busy_seconds, migrations=migrations).close()
                return cls.open(path, read_only, clock, busy_seconds, migrations, simulated)
            if not simulated and store._execute("SELECT 1 FROM run WHERE key = 'simulated'"):
                raise UsageError(
                    f"run {run.path} is simulated: its results are invented, so no command ranks or exports them"
                )
            load_recorded(store.manifest.get("plugins", ()), str(run.path))
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the file and release the lock of the run."""
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def schema_version(self) -> int:
        """Number of migrations applied to the file."""
        return self._execute("PRAGMA user_version")[0][0]

    def set_manifest(self, values: Mapping[str, Any]) -> None:
        """Set entries of the manifest and leave the others."""
        with self.transaction():
            for key, value in values.items():
                self._execute(
                    "INSERT INTO run VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (key, to_json(value)),
                )

    def add_candidate(
        self, candidate: Candidate, statistics: Mapping[str, Any] | None = None, dna: str | None = None
    ) -> None:
        """Record a new candidate and the event `proposed`, with the statistics of its proposal.

        Args:
            candidate: new candidate.
            statistics: payload of the event.
            dna: its program as JSON text; None: made from `candidate.dna`.
        """
        with self.transaction():
            dna, mutations = dna or dna_to_json(candidate.dna), to_json(candidate.mutations)
            parent, same_as = _integer(candidate.parent), _integer(candidate.same_as)
            self._execute(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?)",
                (int(candidate.id), dna, parent, mutations, candidate.structure_hash, same_as, candidate.unit),
            )
            self._append("proposed", candidate.id, None, statistics)

    def start_trial(self, request: TrialRequest) -> None:
        """Record that a trial was handed to a worker (event `started`)."""
        hurdles = [(hurdle.at, hurdle.loss_nats) for hurdle in request.hurdles]
        with self.transaction():
            self._execute(
                "INSERT INTO trials VALUES (?, ?, ?, ?, 'running')",
                (int(request.trial_id), int(request.candidate_id), int(request.seed), to_json(hurdles)),
            )
            self._append("started", request.candidate_id, request.trial_id, {"seed": int(request.seed)})

    def finish_trial(self, trial_id: int, evaluation: Evaluation) -> None:
        """Record a trial's result: evaluation, event and status together.

        An infrastructure fault is not a result of the candidate: it adds the event `worker_lost` and no evaluation.
        """
        lost = evaluation.kind in INFRASTRUCTURE_FAULTS
        with self.transaction():
            candidate_id = self._end(trial_id, "lost" if lost else "finished")
            if lost:
                self._append("worker_lost", candidate_id, trial_id, {"message": evaluation.message})
                return
            evaluation = storable(evaluation)
            outcome, loss = evaluation.outcome, evaluation.loss_nats
            sequence = self._append("evaluated", candidate_id, trial_id, {"outcome": outcome, "loss_nats": loss})
            self._execute(
                "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?)",
                (int(trial_id), candidate_id, sequence, outcome, loss, to_json(evaluation.to_dict())),
            )

    def cancel_trial(self, trial_id: int, why: str) -> None:
        """Record that a running trial was cancelled without a result (event `cancelled`)."""
        with self.transaction():
            self._append("cancelled", self._end(trial_id, "cancelled"), trial_id, {"why": why})

    def add_event(self, kind: str, payload: Mapping[str, Any] | None = None, candidate_id: int | None = None) -> int:
        """Append an event and return its sequence number."""
        with self.transaction():
            return self._append(kind, candidate_id, None, payload)

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        """Write everything of the `with` block, or nothing; a block inside another belongs to the outer one.

        Args:
            durable: whether to wait until the transaction is on disk. Otherwise a power failure (not a killed process)
                may lose it, unless a later durable transaction has ended. Records that can be made again need no wait.
        """
        if self._connection.in_transaction:
            yield
            return
        self._guard.check_present()
        self._set_synchronous("FULL" if durable else "NORMAL")
        try:
            self._execute("BEGIN IMMEDIATE")
            self._guard.check_only_writer()
            before = self._connection.total_changes
            yield
            self._execute("COMMIT")
            if self._connection.total_changes != before:  # SQLite does not write an empty transaction
                self._guard.record(on_disk=self._synchronous == "FULL")
        except BaseException:
            if self._connection.in_transaction:  # SQLite rolls back by itself on some errors, a full disk among them
                self._execute("ROLLBACK")
            raise

    def stop_requested(self) -> bool:
        """Return whether a stop is requested.

        Raises:
            WorkFailedError: the directory of the run was moved, replaced or deleted.
        """
        self._guard.check_present()
        return self.run.stop_requested()

    def _set_synchronous(self, mode: str) -> None:
        if self._synchronous not in (mode, "OFF"):
            self._execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def never_wait_for_disk(self) -> None:
        """Write without waiting for the disk, for runs that a power failure may destroy."""
        self._execute("PRAGMA synchronous = OFF")
        self._synchronous = "OFF"

    def _append(
        self, kind: str, candidate_id: int | None, trial_id: int | None, payload: Mapping[str, Any] | None
    ) -> int:
        if kind not in EVENT_KINDS:
            raise ValueError(f"no event of kind {kind!r}: the kinds are {', '.join(EVENT_KINDS)}")
        values = (self._clock(), kind, _integer(candidate_id), _integer(trial_id), to_json(dict(payload or {})))
        return self._execute(
            "INSERT INTO events (wall_time, kind, candidate_id, trial_id, payload) VALUES (?, ?, ?, ?, ?)"
            " RETURNING sequence",
            values,
        )[0][0]

    def _end(self, trial_id: int, status: str) -> int:
        rows = self._execute(
            "SELECT candidate_id FROM trials WHERE trial_id = ? AND status = 'running'", (int(trial_id),)
        )
        if not rows:
            raise ValueError(f"trial {trial_id} of run {self.run.path} is not running")
        self._execute("UPDATE trials SET status = ? WHERE trial_id = ?", (status, int(trial_id)))
        return rows[0][0]

    def _check_schema(self, migrations: tuple[Migration, ...]) -> None:
        if (version := self.schema_version) > len(migrations):
            raise UsageError(
                f"run {self.run.path} has schema {version}, but this version of primer-search reads schemas up to "
                f"{len(migrations)}: upgrade primer-search"
            )

    def migrate(self, migrations: tuple[Migration, ...]) -> None:
        """Apply the migrations that the file lacks."""
        for version, migration in enumerate(migrations[self.schema_version :], start=self.schema_version + 1):
            for old, new in migration.renamed_files:
                for file in self.run.path.glob(f"{old}*"):
                    file.rename(file.with_name(new + file.name.removeprefix(old)))
            with self.transaction():
                for statement in migration.statements:
                    self._execute(statement)
                self._execute(f"PRAGMA user_version = {version}")


def _integer(value: int | None) -> int | None:
    """Return a Python integer, since sqlite3 would store a NumPy integer as bytes."""
    return None if value is None else int(value)
