"""Replay of whole searches on the tape: the guided search and the paper's algorithm, at equal core-seconds.

    OPENBLAS_NUM_THREADS=1 python benchmarks/replay_searches.py [--budget 10m 1h] [--replays 40] [--json]
    python benchmarks/replay_searches.py --vary MAX_TRAININGS=2 --vary "EFFECT_SD=0.1; INTERACTION_SD=0.05"

Both use the real strategies and the real controller (`primer-search simulate`), at `laptop` with two workers: they
mutate programs, check them, stop trainings, train again and rank. Only the trainings are drawn from the tape. The
paper's algorithm gets the effects of the paper's mutations on the tape, and the guided search those of live mutations.
Each replay has its own bootstrap sample of the tape's children, which is the same for both.

A search is judged by the true gain of the program that it ranks first, at equal steps, at equal time (the view of the
paper), and in the worse of both. A mutation pays if it is truly 0.03 nats better than its parent; it counts if it was
trained to the end.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import sem

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware
from primer_search.benchmarks.replay_tape import text_table
from primer_search.configs.load import load
from primer_search.configs.plan import duration
from primer_search.search.guided import edit_choice, extrapolation, guided_search, measurements, price, stop_rule
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.simulation.found_program import FoundProgram
from primer_search.search.simulation.recorded_trainings import Recording, load_recording
from primer_search.search.simulation.simulate import SimulationOptions, simulate

__all__ = ["Search", "SearchRow", "changed", "main", "replay", "resampled", "row_of"]

MODULES = (guided_search, stop_rule, measurements, extrapolation, edit_choice, price)

WORKERS = 2

PAPER = ("search.strategy=evolution", "trial.unit=reference_seconds", "trial.price=false")
"""Settings of the paper's algorithm at `laptop` (docs/paper.md)."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search to replay.

    Attributes:
        name: description.
        settings: settings that differ from `laptop`.
        constants: changed constants of the modules in search/guided.
    """

    name: str
    settings: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)


SEARCHES = (
    Search("the paper's algorithm", PAPER),
    Search("guided search"),
    Search("guided, random parents", ("search.strategy=guided-random",)),
    Search("guided, no merges or reverts", constants={"MERGE_SHARE": 0.0, "REVERT_SHARE": 0.0}),
    Search("guided, no repeated trainings", constants={"MAX_TRAININGS": 1}),
    Search("guided, no training stopped", constants={"STOPS": {}}),
)
"""Searches to compare: the first two, and the second without one of its rules."""


@dataclass(frozen=True, slots=True)
class SearchRow:
    """Results of a search at one budget.

    Attributes:
        budget: time of the search, with two workers.
        search: name of the search.
        trained: number of mutations trained, to the end or not.
        paying_an_hour: number of mutations per hour of a core that pay in both views and were trained to the end.
        paying_in_time: the same for mutations that pay at equal time alone.
        factor, low, high: `paying_in_time` relative to that of the first search, with the 95% interval of the replays;
            infinite if the first search has none.
        gain: mean true gain of the named program in the worse view, in nats.
        error: standard error of `gain`.
        best: mean of the largest gain among the programs that the search trained to the end.
        steps_gain, time_gain: mean true gain at equal steps and at equal time.
        better: share of replays in which the named program is truly better than that of the first search, in the worse
            view.
        better_in_time: the same at equal time, the paper's view.
        more: mean of the gain minus the second search's, replay by replay.
        more_error: standard error of `more`.
    """

    budget: str
    search: str
    trained: float
    paying_an_hour: float
    paying_in_time: float
    factor: float
    low: float
    high: float
    gain: float
    error: float
    best: float
    steps_gain: float
    time_gain: float
    better: float
    better_in_time: float
    more: float
    more_error: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or one JSON object."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--budget", nargs="+", default=["10m", "1h"], help="times of the searches (default 10m 1h)")
    parser.add_argument("--replays", type=int, default=40, help="replays of each search (default 40)")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        help="constants of search/guided instead of the other rows, as NAME=VALUE; NAME=VALUE",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the first replay (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    add_json(parser)
    chosen = parser.parse_args(arguments)
    varied = [Search(f"guided, {changes}", constants=_constants(changes)) for changes in chosen.vary]
    searches = [*SEARCHES[:2], *(varied or SEARCHES[2:])]
    seeds = range(chosen.seed, chosen.seed + chosen.replays)
    rows: list[SearchRow] = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for budget in chosen.budget:
            seconds = duration("--budget", budget)
            tasks = [[pool.submit(replay, search, seconds, seed) for seed in seeds] for search in searches]
            found = [[task.result() for task in each] for each in tasks]
            hours = WORKERS * seconds / 3600
            rows += [
                row_of(budget, hours, search.name, each, found) for search, each in zip(searches, found, strict=True)
            ]
    about = {**hardware("replay_searches.py", arguments), "replays": chosen.replays, "workers": WORKERS}
    if chosen.json:
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))
        return
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()))
    print(text_table([asdict(row) for row in rows]))


def replay(search: Search, seconds: float, seed: int) -> FoundProgram:
    """Simulate one search on a bootstrap sample of the tape; return the program that it found."""
    config = load("laptop", search.settings)
    options = SimulationOptions(WORKERS, seconds, seed, controller_clock="none")
    recording = resampled(load_recording(), np.random.default_rng(seed))
    with TemporaryDirectory(prefix="primer-search-") as folder, changed(search.constants):
        return simulate(config, options, RunDirectory(Path(folder)), recording=recording).found


@contextmanager
def changed(constants: Mapping[str, Any]) -> Iterator[None]:
    """Change constants of the modules in search/guided for the duration of the `with` block."""
    before = [
        (module, name, getattr(module, name)) for name in constants for module in MODULES if hasattr(module, name)
    ]
    for module, name, _ in before:
        setattr(module, name, constants[name])
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def resampled(recording: Recording, rng: np.random.Generator) -> Recording:
    """Return a recording with a bootstrap sample of the children and unchanged learning curves."""
    places = rng.integers(len(recording.children), size=len(recording.children))
    return replace(recording, children=tuple(recording.children[place] for place in places))


def _constants(changes: str) -> dict[str, Any]:
    constants = {}
    for change in changes.split(";"):
        name, _, value = change.strip().partition("=")
        if not any(hasattr(module, name) for module in MODULES):
            sys.exit(f"--vary {changes}: no module of search/guided has the constant {name}")
        try:
            constants[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            sys.exit(f"--vary {changes}: give a Python number, tuple or dictionary after {name}=")
    return constants


def row_of(
    budget: str, hours: float, name: str, results: Sequence[FoundProgram], searches: Sequence[Sequence[FoundProgram]]
) -> SearchRow:
    """Compare the replays of a search with those of all searches, the first two among them.

    Args:
        budget: time of a search, as text.
        hours: core-hours of a search.
        name: name of the search.
        results: program that the search found in each replay.
        searches: results of every search, by name.
    """
    first, second = searches[0], searches[1]
    paying, paying_first = (np.array([each.paying_in_time for each in found]) for found in (results, first))
    samples = np.random.default_rng(0).integers(len(results), size=(2000, len(results)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = paying[samples].sum(axis=1) / paying_first[samples].sum(axis=1)
        factor = paying.sum() / paying_first.sum()
    low, high = np.quantile(ratios, (0.025, 0.975), method="nearest").tolist()
    gain, gain_first, gain_second = (
        np.array([each.smaller_gain for each in found]) for found in (results, first, second)
    )
    time_gain, time_first = (np.array([each.time_gain for each in found]) for found in (results, first))
    return SearchRow(
        budget=budget,
        search=name,
        trained=float(np.mean([each.edits for each in results])),
        paying_an_hour=float(np.mean([each.paying_edits for each in results])) / hours,
        paying_in_time=float(paying.mean()) / hours,
        factor=float(factor),
        low=low,
        high=high,
        gain=float(gain.mean()),
        error=float(sem(gain)),
        best=float(np.mean([each.best_gain for each in results])),
        steps_gain=float(np.mean([each.gain for each in results])),
        time_gain=float(time_gain.mean()),
        better=float(np.mean(gain > gain_first)),
        better_in_time=float(np.mean(time_gain > time_first)),
        more=float(np.mean(gain - gain_second)),
        more_error=float(sem(gain - gain_second)),
    )


if __name__ == "__main__":
    main()
