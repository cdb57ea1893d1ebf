"""The run store: what is written is read back, and nothing that happens to the writer damages it."""

from __future__ import annotations

import itertools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.errors import UsageError, WorkFailedError
from primer_search.primitives.programs.library import PRIMER_EZ, TRANSFORMER
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.runs.schema import MIGRATIONS, Migration
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, HurdleThreshold, TrialRequest

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | FLOATS
COUNTS = st.integers(0, 2**62)
EVALUATIONS = st.builds(
    Evaluation,
    outcome=st.sampled_from(
        ["ok", "stopped_at_hurdle", "rejected:causality", "non_finite", "timeout", "out_of_memory"]
    ),
    message=st.text(),
    loss_nats=MAYBE,
    bits_per_byte=MAYBE,
    hurdle_losses=st.lists(FLOATS, max_size=4).map(tuple),
    curve=st.lists(st.tuples(FLOATS, COUNTS, FLOATS), max_size=4).map(tuple),
    steps=COUNTS,
    epochs=FLOATS,
    train_seconds=FLOATS,
    step_ms=MAYBE,
    input_wait_share=MAYBE,
    parameters=st.none() | COUNTS,
    device=st.text(),
)


def candidate(number: int, parent: int | None = 0, same_as: int | None = None) -> Candidate:
    dna = TRANSFORMER if parent is None else PRIMER_EZ
    return Candidate(number, dna, parent, () if parent is None else (f"step {number}",), f"hash{number}", same_as)


def request(trial: int, number: int = 0, seed: int = 1) -> TrialRequest:
    hurdles = (HurdleThreshold(2.5, 4.25), HurdleThreshold(7.5, None))
    dna = TRANSFORMER if number == 0 else PRIMER_EZ
    return TrialRequest(trial, number, dna_to_json(dna), seed, hurdles)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path, {"seed": 3}) as store:
        store.add_candidate(candidate(0, parent=None))
        yield store


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all of Hypothesis' examples."""
    with Store.create(tmp_path_factory.mktemp("run"), {}) as store:
        store.add_candidate(candidate(0, parent=None))
        yield store


def test_what_was_written_is_read_back_by_another_reader(store: Store) -> None:
    child = candidate(1)
    store.add_candidate(child, {"tries": 4, "refused": {"widths": 2}})
    twin = candidate(2, parent=1, same_as=1)
    store.add_candidate(twin)
    store.start_trial(request(0, 0))
    store.start_trial(request(1, 1))
    found = Evaluation("ok", loss_nats=2.5, hurdle_losses=(4.0, 3.0), curve=((1.0, 10, 5.0),), steps=7)
    store.finish_trial(1, found)
    with Store.open(store.run.path, read_only=True) as reader:
        assert reader.candidates() == [candidate(0, parent=None), child, twin]
        assert reader.candidate(1) == child
        assert [(trial.candidate_id, trial.trial_id, trial.evaluation) for trial in reader.evaluations()] == [
            (1, 1, found)
        ]
        assert reader.unfinished_trials() == [request(0, 0)]
        assert reader.next_trial_id() == 2
        assert reader.ancestry()[2].same_as == 1
        assert reader.manifest["seed"] == 3


def test_events_tell_everything_in_order_of_arrival(tmp_path: Path) -> None:
    ticks = itertools.count(100)
    with Store.create(tmp_path, {"seed": 3}, clock=lambda: float(next(ticks))) as store:
        store.add_candidate(candidate(0, parent=None), {"tries": 1})
        for trial in range(3):
            store.start_trial(request(trial))
        store.finish_trial(1, Evaluation("ok", loss_nats=2.5))
        store.finish_trial(0, Evaluation("worker_lost", message="it died"))
        store.cancel_trial(2, "the budget is spent")
        last = store.add_event("run_ended")
        events = store.events()
    assert [event.kind for event in events] == [
        "run_started", "proposed", "started", "started", "started", "evaluated", "worker_lost", "cancelled", "run_ended"
    ]  # fmt: skip
    assert [event.sequence for event in events] == list(range(1, last + 1))
    times = [event.wall_time for event in events]
    assert times == sorted(set(times))
    assert [event.trial_id for event in events] == [None, None, 0, 1, 2, 1, 0, 2, None]
    assert events[1].payload == {"tries": 1}
    assert events[5].payload == {"outcome": "ok", "loss_nats": 2.5}
    assert events[6].payload == {"message": "it died"}
    assert events[7].payload == {"why": "the budget is spent"}


def test_events_can_be_followed_from_where_one_left_off(store: Store) -> None:
    last = store.add_event("note", {"line": 1})
    store.add_event("note", {"line": 2})
    assert [event.payload for event in store.events(after=last)] == [{"line": 2}]


def test_a_lost_worker_leaves_no_evaluation_and_its_trial_is_over(store: Store) -> None:
    store.start_trial(request(0))
    store.finish_trial(0, Evaluation("worker_lost"))
    assert store.evaluations() == []
    assert store.unfinished_trials() == []


@given(EVALUATIONS)
def test_every_evaluation_comes_back_exactly(shared: Store, evaluation: Evaluation) -> None:
    trial = shared.next_trial_id()
    shared.start_trial(request(trial))
    shared.finish_trial(trial, evaluation)
    assert shared.evaluations()[-1].evaluation == evaluation


def test_numbers_that_are_none_are_stored_as_null(store: Store) -> None:
    store.start_trial(request(0))
    store.start_trial(request(1))
    store.finish_trial(0, Evaluation("non_finite", loss_nats=math.inf, hurdle_losses=(3.0, math.nan, 2.0)))
    store.finish_trial(1, Evaluation("non_finite", bits_per_byte=math.nan, curve=((1.0, 1, 2.0), (2.0, 2, math.inf))))
    first, second = (trial.evaluation for trial in store.evaluations())
    assert (first.loss_nats, first.hurdle_losses) == (None, (3.0,))
    assert (second.bits_per_byte, second.curve) == (None, ((1.0, 1, 2.0),))
    raw = sqlite3.connect(store.run.store)
    rows = raw.execute("SELECT loss_nats, evaluation FROM evaluations UNION ALL SELECT NULL, payload FROM events")
    for loss, text in rows.fetchall():
        assert loss is None
        assert "NaN" not in text
        assert "Infinity" not in text
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("UPDATE evaluations SET loss_nats = 9e999")
    raw.close()


def test_numpy_numbers_are_stored_as_numbers(store: Store) -> None:
    store.set_manifest({"budget": np.float32(0.5), "workers": np.int64(2), "none": np.float64("nan")})
    store.start_trial(TrialRequest(np.int64(0), np.int64(0), "", np.uint32(7)))  # pyright: ignore[reportArgumentType]
    store.finish_trial(np.int64(0), Evaluation("ok", loss_nats=np.float32(2.5)))  # pyright: ignore[reportArgumentType]
    assert {**store.manifest, "started_at": 0, "seed": 0} == {
        "started_at": 0, "seed": 0, "budget": 0.5, "workers": 2, "none": None
    }  # fmt: skip
    (trial,) = store.evaluations()
    assert (trial.trial_id, trial.candidate_id, trial.evaluation.loss_nats) == (0, 0, 2.5)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET kind = 'note'",
        "DELETE FROM events",
        "REPLACE INTO events VALUES (1, 0.0, 'note', NULL, NULL, '{}')",
    ],
)
def test_events_cannot_be_changed_even_by_hand(store: Store, statement: str) -> None:
    before = store.events()
    raw = sqlite3.connect(store.run.store)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(statement)
    raw.close()
    assert store.events() == before


def test_what_cannot_be_is_refused_and_changes_nothing(store: Store) -> None:
    store.start_trial(request(0))
    store.finish_trial(0, Evaluation("ok", loss_nats=2.0))
    before = store.events()
    for attempt in (
        lambda: store.add_candidate(candidate(0)),
        lambda: store.add_candidate(candidate(5, parent=4)),
        lambda: store.start_trial(request(0)),
        lambda: store.start_trial(request(1, number=9)),
        lambda: store.finish_trial(0, Evaluation("ok", loss_nats=1.0)),
        lambda: store.cancel_trial(7, "no such trial"),
        lambda: store.add_event("invented"),
    ):
        with pytest.raises(ValueError):
            attempt()
    assert store.events() == before
    assert len(store.candidates()) == 1
    assert [trial.evaluation.loss_nats for trial in store.evaluations()] == [2.0]


def test_a_transaction_writes_all_or_nothing_also_with_others_inside(store: Store) -> None:
    with store.transaction(durable=False):
        store.add_candidate(candidate(1), dna=dna_to_json(PRIMER_EZ))
        store.start_trial(request(50, 1))
    assert store.candidate(1).dna == PRIMER_EZ and 50 in {trial.trial_id for trial in store.unfinished_trials()}
    before = store.events()
    with pytest.raises(RuntimeError, match="halfway"), store.transaction():
        store.add_candidate(candidate(2))
        store.finish_trial(50, Evaluation("ok", loss_nats=3.0))
        raise RuntimeError("halfway")
    assert store.events() == before and len(store.candidates()) == 2
    assert 50 in {trial.trial_id for trial in store.unfinished_trials()}
    assert store.trial_counts()["running"] == len(store.unfinished_trials())


def test_a_candidate_that_is_not_there_is_a_usage_error(store: Store) -> None:
    for number in (1, -1, 10**30):
        with pytest.raises(UsageError, match=f"no candidate {number}: choose one from 0 to 0"):
            store.candidate(number)


def test_a_reader_sees_one_state_inside_a_snapshot(store: Store) -> None:
    with Store.open(store.run.path, read_only=True) as reader:
        with reader.snapshot():
            before = reader.events()
            store.add_event("note")
            assert reader.events() == before
        assert len(reader.events()) == len(before) + 1


def test_a_reader_cannot_write(store: Store) -> None:
    with (
        Store.open(store.run.path, read_only=True) as reader,
        pytest.raises(WorkFailedError, match="cannot be written"),
    ):
        reader.add_event("note")


def test_a_full_disk_fails_clearly_and_leaves_the_trial_to_be_finished(store: Store) -> None:
    store.start_trial(request(0))
    before = store.events()
    connection = store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    long = Evaluation("ok", message="long " * 20_000, loss_nats=2.0)
    with pytest.raises(WorkFailedError, match=r"is full: make room, then `primer-search resume"):
        store.finish_trial(0, long)
    assert store.events() == before
    assert store.evaluations() == []
    assert store.unfinished_trials() == [request(0)]
    connection.execute("PRAGMA max_page_count = 1000000")
    store.finish_trial(0, long)
    assert [trial.evaluation for trial in store.evaluations()] == [long]


def test_a_store_locked_by_another_program_fails_clearly_and_recovers(store: Store) -> None:
    store.close()
    with Store.open(store.run.path, busy_seconds=0.05) as impatient:
        intruder = sqlite3.connect(store.run.store, isolation_level=None)
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(WorkFailedError, match="locked: close it"):
            impatient.add_event("note", {"line": 1})
        intruder.execute("ROLLBACK")
        intruder.close()
        impatient.add_event("note", {"line": 2})
        assert impatient.events()[-1].payload == {"line": 2}


def test_only_one_controller_writes_a_run_and_the_message_names_it(store: Store) -> None:
    with pytest.raises(UsageError, match=rf"written by process {os.getpid()} on .*primer-search stop"):
        Store.open(store.run.path)
    assert f"process {os.getpid()} " in str(store.run.controller())
    store.close()
    assert store.run.controller() is None
    Store.open(store.run.path).close()


def test_a_failed_opening_lets_go_of_the_run(store: Store) -> None:
    store.close()
    with pytest.raises(UsageError, match=f"has schema {len(MIGRATIONS)}, but .* reads schemas up to 0: upgrade"):
        Store.open(store.run.path, migrations=())
    Store.open(store.run.path).close()


def test_a_migration_is_applied_once_and_a_failing_one_not_at_all(store: Store) -> None:
    store.close()
    second = Migration("notes", ("CREATE TABLE notes (line TEXT)", "INSERT INTO notes VALUES ('once')"))
    broken = Migration("broken", ("CREATE TABLE half (line TEXT)", "INSERT INTO nowhere VALUES (1)"))
    for _ in range(2):
        with pytest.raises(WorkFailedError, match="nowhere"):
            Store.open(store.run.path, migrations=(*MIGRATIONS, second, broken))
    with Store.open(store.run.path, migrations=(*MIGRATIONS, second)) as upgraded:
        assert upgraded.schema_version == len(MIGRATIONS) + 1
        assert upgraded._execute("SELECT line FROM notes") == [("once",)]
        assert upgraded._execute("SELECT name FROM sqlite_master WHERE name = 'half'") == []
        assert len(upgraded.candidates()) == 1


WRITER = """
import sys
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, TrialRequest
store = Store.open(sys.argv[1])
for trial in store.unfinished_trials():
    store.cancel_trial(trial.trial_id, "its controller died")
while True:
    trial = store.next_trial_id()
    store.start_trial(TrialRequest(trial, 0, "", 1))
    store.finish_trial(trial, Evaluation("ok", loss_nats=float(trial), message="x" * 3000))
    print(trial, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_committed(store: Store) -> None:
    path, committed, rng = store.run.path, set[int](), np.random.default_rng(0)
    store.close()
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        committed.add(int(writer.stdout.readline()))
        time.sleep(float(rng.uniform(0.0, 0.1)))
        writer.send_signal(signal.SIGKILL)
        committed |= {int(line) for line in writer.stdout.read().splitlines()}
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        with Store.open(path, read_only=True) as reader:
            check_after_a_kill(reader, committed)
    assert len(committed) > 5


def check_after_a_kill(reader: Store, committed: set[int]) -> None:
    assert reader._execute("PRAGMA integrity_check") == [("ok",)]
    finished = {trial.trial_id: trial for trial in reader.evaluations()}
    assert committed <= set(finished)
    assert len(finished) <= len(committed) + 5  # at most one a kill was committed and not announced
    assert all(trial.evaluation.loss_nats == trial.trial_id for trial in finished.values())
    events = reader.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.trial_id for event in events if event.kind == "evaluated"] == list(finished)
    assert not {trial.trial_id for trial in reader.unfinished_trials()} & set(finished)


def test_a_run_on_a_disk_that_cannot_be_written_is_still_read(store: Store) -> None:
    store.close()
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root")
    store.run.path.chmod(0o555)
    try:
        with Store.open(store.run.path, read_only=True) as reader:
            assert len(reader.candidates()) == 1
        with pytest.raises(WorkFailedError, match="cannot"):
            store.run.lock.chmod(0o444)
            Store.open(store.run.path)
    finally:
        store.run.path.chmod(0o755)


def test_a_folder_that_is_no_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        Store.open(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"has no run\.sqlite"):
        Store.open(tmp_path, read_only=True)
    (tmp_path / "run.sqlite").write_text("this is no database, however long it may be " * 100)
    with pytest.raises(UsageError, match="not an SQLite file"):
        Store.open(tmp_path, read_only=True)
    (tmp_path / "run.sqlite").write_bytes(b"")
    for read_only in (True, False):
        with pytest.raises(UsageError, match="not written by primer-search"):
            Store.open(tmp_path, read_only=read_only)
