"""Searches that take seconds: a text of a few words, one-layer models of eight channels, programs of three ops."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from primer_search.models.config import ModelConfig
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig, SearchConfig
from primer_search.search.evolution.initial_programs import InitialProgram
from primer_search.search.runs.controller import Controller
from primer_search.search.runs.progress_snapshot import ProgressSnapshot
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.workers.config import DataConfig, OptimizerConfig, TrialConfig, WorkersConfig
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Executor

WORDS = ("the", "cat", "dog", "sat", "on", "a", "mat", "and", "ran", "to", "see", "what", "was", "in", "by", "river")

CONSTANTS = {"zero": 0.0, "third": 0.3, "hundred": 100.0}
BASELINE = assemble(
    {"main": "mixed = CONV_1X1 h0 width=8\nbent = TANH mixed\noutput = ADD bent h0"},
    CONSTANTS,
    (8, 16),
)
"""A block that learns and compiles fast, as do its children."""

INITIAL_PROGRAMS = tuple(
    InitialProgram(
        number,
        f"{op.lower()}.json",
        assemble({"main": f"mixed = CONV_1X1 h0 width=8\nbent = {op} mixed\noutput = ADD bent h0"}, CONSTANTS, (8, 16)),
    )
    for number, op in ((1, "SIN"), (2, "ABS"))
)
"""Other initial programs of the same size."""

MODEL = ModelConfig(layers=1, unit=1, length=8, vocabulary=300, parameter_cap=3.0)
TRIAL = TrialConfig(unit="steps", budget_steps=12, hurdles=2, batch=4, evaluation_batches=2)
CONFIG = RunConfig(
    model=MODEL,
    trial=TRIAL,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5),
    search=SearchConfig(
        population=4, tournament=2, baseline_trials=2, proposals=20, hurdle_window=10, hurdle_minimum=3, retries=1
    ),
    workers=WorkersConfig(executor="inline", count=1, accel="cpu"),
)


def write_text(folder: Path, documents: int = 60) -> Path:
    """Write documents of random words."""
    folder.mkdir()
    draw = random.Random(0)
    for number in range(documents):
        words = " ".join(draw.choice(WORDS) for _ in range(400))
        (folder / f"{number}.txt").write_text(f"{words}. {number}\n")
    return folder


def own_tokenizer(path: Path, text: Path) -> Path:
    """Train a byte-level BPE tokenizer, as a user of the library `tokenizers` would, and save it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train([str(file) for file in sorted(text.iterdir())], trainer)
    tokenizer.save(str(path))
    return path


def tiny_dataset(folder: Path) -> Path:
    """Prepare a dataset of 300 token ids."""
    data = DataConfig(f"text:{write_text(folder / 'text')}", 50_000)
    return prepare_dataset(data, MODEL.vocabulary, folder / "cache")


def numbers(evaluation: Evaluation) -> dict[str, object]:
    """Return the fields of an evaluation except times and memory."""
    timeless = replace(
        evaluation,
        train_seconds=0.0,
        compile_seconds=0.0,
        evaluate_seconds=0.0,
        probe_seconds=0.0,
        timing_seconds=0.0,
        waiting_seconds=0.0,
        wall_seconds=0.0,
        step_ms=None,
        input_wait_share=None,
        peak_memory_bytes=None,
    )
    return json.loads(json.dumps(timeless.to_dict()))


@contextmanager
def open_controller(
    run: RunDirectory,
    dataset: Path,
    config: RunConfig = CONFIG,
    seed: int = 0,
    executor: Executor | None = None,
    observe: Callable[[ProgressSnapshot], None] = lambda state: None,
    initial_programs: Sequence[InitialProgram] = (),
):
    """Open the controller of a new or an existing run of the tiny search, and its store."""
    if not run.store.exists():
        run.path.mkdir(exist_ok=True)
        Store.create(run.path, {"config": config.to_dict(), "seed": seed, "workers": 1}).close()
    executor = executor or InlineExecutor(CandidateTrainerFactory(config, str(dataset), dna_to_json(BASELINE)))
    with Store.open(run.path) as store, executor:
        if store.candidates():
            store.add_event("run_resumed", {"workers": 1})
        yield (
            Controller(config, seed, BASELINE, store, executor, observe=observe, initial_programs=initial_programs),
            store,
        )


def stop_after(run: RunDirectory, candidates: int) -> Callable[[ProgressSnapshot], None]:
    """Return an observer that stops a search at this number of candidates."""

    def observe(state: ProgressSnapshot) -> None:
        if state.candidates >= candidates:
            run.request_stop()

    return observe


def search(path: str, dataset: str, candidates: int, initial_programs: Sequence[InitialProgram] = ()) -> None:
    """Search in this process until so many candidates are evaluated; print a line a turn, for tests that kill it."""
    run = RunDirectory(Path(path))

    def observe(_: ProgressSnapshot) -> None:
        # The store says what is done. The state alone does not: a search that was killed during its last trial begins
        # with all candidates proposed and one still to be evaluated.
        with Store.open(run.path, read_only=True) as store:
            results = {trial.candidate_id for trial in store.evaluations()}
            known = [{candidate.id, candidate.same_as} & results for candidate in store.candidates()]
        print(f"{len(results)} evaluated", flush=True)
        if len(known) >= candidates and all(known):
            run.request_stop()

    with open_controller(run, Path(dataset), observe=observe, initial_programs=initial_programs) as (controller, _):
        controller.run(600.0)


if __name__ == "__main__":
    search(sys.argv[1], sys.argv[2], int(sys.argv[3]), INITIAL_PROGRAMS if "initial_programs" in sys.argv else ())
