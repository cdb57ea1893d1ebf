"""Repair of a damaged run: a new store gets everything that can be read, and the damaged files are kept."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError, WorkFailedError
from ...primitives.programs.program_json import dna_from_json, dna_to_json
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..evolution.initial_programs import read_initial_programs
from ..guided.make_strategy import make_strategy
from ..runs.connection import explain_errors, new_run_file
from ..runs.records import to_json
from ..runs.run_directory import ControllerLock, RunDirectory, find_run
from ..runs.schema import MIGRATIONS
from ..runs.store import Store
from .audit import audit
from .page_reader import read_rows, schema_version
from .reconcile import Losses, StoreRows, reconcile, sort_rows

__all__ = ["Repair", "check_run", "repair"]


@dataclass(frozen=True, slots=True)
class Repair:
    """Result of a repair.

    Attributes:
        run: directory of the run.
        findings: faults of the run; if there are none, nothing was changed.
        candidates, results: number of candidates and results that the repaired run has.
        losses: candidates, results and events that could not be recovered.
        damaged: folder with the damaged files; None if nothing was wrong.
    """

    run: RunDirectory
    findings: list[str]
    candidates: int
    results: int
    losses: Losses
    damaged: Path | None


def check_run(path: Path | str) -> list[str]:
    """Return the faults of a run as sentences; empty if it is consistent. Another process may be writing the run."""
    run = find_run(path)
    recorded = run.last_event()  # before the store is opened: another process may be writing it
    if schema_version(run.store) is None and sort_rows(read_rows(run.store)).run:
        return ["the first page of the file is damaged"]
    try:
        with Store.open(run.path, read_only=True, simulated=True) as store:
            last = store.last_sequence()
            lost = [f"the last {recorded - last} of {recorded} events are missing"] if last < recorded else []
            return [*lost, *audit(store)]
    except WorkFailedError as error:
        return [f"the file cannot be read: {error.__cause__ or error}"]


def repair(path: Path | str) -> Repair:
    """Make a damaged run consistent, with everything that can still be read.

    Raises:
        UsageError: the run does not exist, is being written, or has a newer schema.
        WorkFailedError: its configuration or its first program is lost, or there is no room for the new store.
    """
    run = find_run(path)
    lock = ControllerLock(run)
    try:
        if not (findings := check_run(run.path)):
            return Repair(run, [], 0, 0, Losses([], [], []), None)
        rows = sort_rows(read_rows(run.store))
        version = schema_version(run.store) or _guess_version(run, rows)
        if version > len(MIGRATIONS):
            raise UsageError(f"run {run.path} has schema {version}: upgrade primer-search, then repair it")
        kept, losses = reconcile(rows, _starters(run, rows), lock.last_event)
        damaged = _replace_store(run, kept, version)
        lock.record_event(max(kept.events))
    finally:
        lock.release()
    return Repair(run, findings, len(kept.candidates), len(kept.evaluations), losses, damaged)


def _guess_version(run: RunDirectory, rows: StoreRows) -> int:
    """Return the schema version of a store whose first page is lost: the current one, if its settings can be read."""
    try:
        RunConfig.from_dict(json.loads(rows.run.get("config", "{}")))
    except UsageError as error:
        raise WorkFailedError(
            f"run {run.path} cannot be repaired: its first page is damaged, and another version of primer-search "
            "wrote it"
        ) from error
    return len(MIGRATIONS)


def _starters(run: RunDirectory, rows: StoreRows) -> dict[int, tuple[Any, ...]]:
    """Return rows of the baseline and the initial programs, from the manifest; none if the baseline is not lost."""
    if missing := {"config", "seed"} - rows.run.keys():
        raise WorkFailedError(
            f"run {run.path} cannot be repaired: its {' and '.join(sorted(missing))} cannot be read; the programs that "
            "can be read are in its run.sqlite"
        )
    if BASELINE_ID in rows.candidates:
        return {}
    manifest = {key: json.loads(text) for key, text in rows.run.items()}
    if "baseline_dna" not in manifest:
        raise WorkFailedError(f"run {run.path} cannot be repaired: its baseline cannot be read")
    config, baseline = RunConfig.from_dict(manifest["config"]), dna_from_json(manifest["baseline_dna"])
    initial_programs = read_initial_programs(manifest) if "initial_programs" in manifest else ()
    strategy = make_strategy(config, manifest["seed"], baseline, initial_programs)
    return {
        each.id: (dna_to_json(each.dna), None, to_json(each.mutations), each.structure_hash, None, each.unit)
        for each, _ in strategy.starters
    }


def _replace_store(run: RunDirectory, rows: StoreRows, version: int) -> Path:
    """Write the rows to a new store, replace the damaged store by it, and return the folder of the damaged files."""
    scratch = RunDirectory(run.path / ".repair")
    shutil.rmtree(scratch.path, ignore_errors=True)
    try:
        scratch.path.mkdir()
        _write_rows(scratch, rows, version)
        if findings := check_run(scratch.path):
            raise WorkFailedError(f"run {run.path} cannot be repaired: {findings[0]}")
        damaged = _keep_damaged(run)
        os.replace(scratch.store, run.store)
    except OSError as error:
        raise WorkFailedError(
            f"cannot repair run {run.path}: {error.strerror}; free some disk space, or check the disk"
        ) from error
    finally:
        shutil.rmtree(scratch.path, ignore_errors=True)
    return damaged


def _write_rows(run: RunDirectory, rows: StoreRows, version: int) -> None:
    """Write the rows to a new store with a schema version."""
    with new_run_file(run, busy_seconds=0.0) as connection, explain_errors(run):
        store = Store(run, connection, None, time.time)
        store.migrate(MIGRATIONS[:version])
        with store.transaction():
            for table, by_key in vars(rows).items():
                width = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
                insert = f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"
                for key, row in by_key.items():
                    values = row if isinstance(row, tuple) else (row,)
                    connection.execute(insert, (key, *values[: width - 1]))


def _keep_damaged(run: RunDirectory) -> Path:
    """Move the files of a damaged store to a new folder, but copy `run.sqlite`, which stays until it is replaced."""
    number = 1 + sum(1 for _ in run.path.glob("damaged-*"))
    folder = run.path / f"damaged-{number}"
    folder.mkdir()
    shutil.copy2(run.store, folder)
    for suffix in ("-wal", "-shm"):
        file = Path(f"{run.store}{suffix}")
        if file.exists():
            os.replace(file, folder / file.name)
    return folder
