"""Core-seconds that the search needs to name the ten best programs of the tape, compared with a naive search.

    OPENBLAS_NUM_THREADS=1 python benchmarks/search_cost.py [--samples 40] [--replays 600] [--json]

The naive search trains every valid mutation that it draws to the end, even if it equals a known program, and names the
ten programs with the best mean loss. The search trains only new programs, stops some of them, and trains the best
again.

The quality of the ten named programs is the number of them that are among the ten truly best. The naive search trains
every program several times, or only a share of the programs, so that it reaches the quality of the search. The factor
is its core-seconds divided by those of the search. A second factor compares both at equal mean true loss of the ten
named programs.

Nothing is trained: losses, curves and seconds are from the tape. Each replay draws true losses from their posterior,
and trainings add the noise between random seeds. Intervals contain 95% of bootstrap samples of the children. Two
choices favour the naive search: invalid mutations cost it no time, and equal programs count once among its ten.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.compile_time import cached_compile_share
from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware
from primer_search.benchmarks.record_tape import SHARES, Entry
from primer_search.benchmarks.replay_data import Children, children_of, read_entries
from primer_search.benchmarks.replay_hurdles import Rule
from primer_search.benchmarks.replay_naming import (
    NAMED,
    Naming,
    Trainings,
    draw_trainings,
    name_naively,
    name_with_repeats,
    reached_shares,
)
from primer_search.benchmarks.replay_proposals import MUTATIONS, count_proposals
from primer_search.benchmarks.replay_tape import text_table
from primer_search.search.guided.guided_search import MAX_TRAININGS
from primer_search.search.guided.linear_model import OUTLIERS
from primer_search.search.guided.stop_rule import POINTS, STOPS

__all__ = ["Charges", "Comparison", "Step", "charges_of", "main"]

TAPE = Path(__file__).parent / "results" / "tape.jsonl.gz"
HEADS = 2
RULE = Rule(tuple(POINTS[place] for place in STOPS), "quarter", OUTLIERS, tuple(STOPS.values()))
"""Hurdles of the guided search."""

EFFORTS = (0.25, 0.5, 0.75, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of trainings of each program by the naive search; below 1: share of the programs that are trained."""

PAIRS = (0, 15, 30, 60, 120)
"""Numbers of repeated trainings of close pairs to compare."""

PAPER_SHARE = 5 / 31
"""Share of the training that the paper's four hurdles leave if half pass each: (n + 1) / (2^(n + 1) - 1)."""

SENTENCES = {
    "steps": (
        "Each row adds one rule to the row before; the last trains close pairs again instead of the leaders. core "
        "seconds: time to name the ten; the first row trains each drawn program once; overlap: number of named "
        "programs that are among the ten truly best; true loss: mean of the ten named programs, in nats; effort: "
        "trainings of each drawn program that the naive search needs for this overlap; factor: core-seconds of the "
        "naive search with this effort, divided by those of the row; by loss: the factor at equal true loss; part: "
        "factor divided by that of the row before; low, high: 95% intervals of the factors."
    ),
    "pairs": "More or fewer repeated trainings of close pairs, with all other rules.",
    "seconds": "Core-seconds of the search with close pairs, by activity.",
    "others": "Factor of the search with close pairs, against other naive searches and without some of its costs.",
}


@dataclass(frozen=True, slots=True)
class Charges:
    """Costs of a search: arrays [child] of core-seconds, except `drawn` and `cached`.

    Attributes:
        compile: first compilation of a program.
        train: training to the budget.
        evaluate: one evaluation, during or at the end of a training.
        check: proposal, identity checks and probe of a new program.
        drawn: [child] number of valid mutations drawn until one was a new program.
        cached: time of a compilation from the shared cache, relative to the first.
    """

    compile: np.ndarray
    train: np.ndarray
    evaluate: np.ndarray
    check: np.ndarray
    drawn: np.ndarray
    cached: float

    @property
    def full(self) -> np.ndarray:
        """Core-seconds of one training with its own compilation."""
        return self.compile + self.train + self.evaluate


@dataclass(frozen=True, slots=True)
class Step:
    """A search in the comparison.

    Attributes:
        rules: the rule that it adds.
        core_seconds: mean over the replays.
        overlap: mean number of named programs that are among the truly best.
        true_loss: mean true loss of the named programs, in nats.
        effort: trainings of each program with which the naive search reaches the same overlap.
        factor: core-seconds of the naive search at this effort, divided by `core_seconds`.
        by_loss: the factor at equal mean true loss.
    """

    rules: str
    core_seconds: float
    overlap: float
    true_loss: float
    effort: float
    factor: float
    by_loss: float


class Comparison:
    """Searches on one sample of the tape, compared with the naive search at every effort."""

    def __init__(self, trainings: Trainings, charges: Charges):
        self.trainings, self.charges = trainings, charges
        curve = [name_naively(trainings, effort) for effort in EFFORTS]
        self._overlaps = np.maximum.accumulate([float(each.overlap.mean()) for each in curve])
        self._gains = np.maximum.accumulate([-float(each.true_loss.mean()) for each in curve])
        self.every = self._total(charges.full)
        drawn = float(charges.drawn[trainings.places[0]].mean())
        self.naive = drawn * self.every
        self.once = curve[EFFORTS.index(1)]
        self.reached = reached_shares(trainings, RULE)
        self._named: dict[int, tuple[Step, Naming]] = {}

    def step(self, rules: str, naming: Naming, core_seconds: float) -> Step:
        """Compare a search with the naive one."""
        overlap, loss = float(naming.overlap.mean()), float(naming.true_loss.mean())
        effort, other = _least_effort(self._overlaps, overlap), _least_effort(self._gains, -loss)
        return Step(
            rules,
            core_seconds,
            overlap,
            loss,
            effort,
            effort * self.naive / core_seconds,
            other * self.naive / core_seconds,
        )

    def seconds(self, naming: Naming, cached: float) -> dict[str, float]:
        """Return the core-seconds of a search with identity checks, by activity."""
        charges, reached = self.charges, naming.reached
        evaluations = 1 + sum((reached > stop).astype(float) for stop in RULE.stops)
        if (reached == 1.0).all():
            evaluations = np.ones_like(reached)
        again = cached * charges.compile + charges.train + charges.evaluate
        return {
            "proposals and checks": self._total(charges.check),
            "first compilation": self._total(charges.compile),
            "trainings that were stopped": self._total(charges.train, reached * (reached < 1.0)),
            "first trainings to the end": self._total(charges.train, reached == 1.0),
            "evaluations": self._total(charges.evaluate, evaluations),
            "repeated trainings": self._total(again, naming.repeats),
        }

    def steps(self, pairs: int) -> list[Step]:
        """Return all searches; each has one rule more than the one before."""
        hurdles = name_with_repeats(self.trainings, self.reached)
        leaders = name_with_repeats(self.trainings, self.reached, MAX_TRAININGS)
        checked = sum(self.seconds(self.once, 1.0).values())
        rows = [
            self.step("naive search", self.once, self.naive),
            self.step("identity checks", self.once, checked),
            self.step("hurdles that extrapolate", hurdles, sum(self.seconds(hurdles, 1.0).values())),
            self.step(f"leaders trained {MAX_TRAININGS} times", leaders, sum(self.seconds(leaders, 1.0).values())),
        ]
        cached = sum(self.seconds(leaders, self.charges.cached).values())
        return [*rows, self.step("shared compiled programs", leaders, cached), self.pairs(pairs)[0]]

    def pairs(self, pairs: int) -> tuple[Step, Naming]:
        """Return the search that trains this number of close pairs again, with all other rules; replayed only once."""
        if pairs not in self._named:
            naming = name_with_repeats(self.trainings, self.reached, 1, pairs)
            seconds = sum(self.seconds(naming, self.charges.cached).values())
            self._named[pairs] = self.step(f"{pairs} close pairs trained again", naming, seconds), naming
        return self._named[pairs]

    def others(self, pairs: int, paper_drawn: float) -> dict[str, float]:
        """Return factors against other naive searches, and factors without some of the costs."""
        step, naming = self.pairs(pairs)
        parts, drawn = self.seconds(naming, self.charges.cached), self.naive / self.every
        again = self._total(self.charges.full - (1 - self.charges.cached) * self.charges.compile)
        shared = self.every + max(0.0, step.effort * drawn - 1.0) * again
        careful = name_with_repeats(self.trainings, np.ones_like(self.reached), MAX_TRAININGS)
        careful_seconds = self.naive + self._total(self.charges.full, careful.repeats)
        naive, total = step.effort * self.naive, step.core_seconds
        rest = total - parts["trainings that were stopped"] - parts["first trainings to the end"]
        training = self._total(self.charges.train)
        best = rest + training * RULE.stops[0]
        compiling, repeats = parts["first compilation"], parts["repeated trainings"]
        return {
            "naive search with the paper's mutations only": step.factor * paper_drawn / drawn,
            "naive search with the shared cache of compiled programs": shared / total,
            "naive search that trains its leaders again": step.factor / self.step("", careful, careful_seconds).factor,
            "hurdles that save what the paper's do, and no good program": naive / (rest + training * PAPER_SHARE),
            "hurdles that stop all at the first stop, and no good program": naive / best,
            "the same, and compilation free": naive / (best - compiling),
            "the same, and repeated trainings free": naive / (best - compiling - repeats),
        }

    def _total(self, seconds: np.ndarray, weights: np.ndarray | float = 1.0) -> float:
        """Return the weighted sum over programs, as a mean over the replays."""
        return float((weights * seconds[self.trainings.places]).sum(axis=1).mean())


def charges_of(entries: Sequence[Entry], children: Children, cached: float, seed: int) -> tuple[Charges, np.ndarray]:
    """Return the charges, and the number of valid mutations drawn for each child with only the paper's mutations."""
    results = [entry.evaluation for entry in entries if entry.kind in SHARES]
    tape, paper = (
        count_proposals(entries, HEADS, mutations, np.random.default_rng(seed)) for mutations in MUTATIONS.values()
    )
    probe = np.array([each["probe_seconds"] for each in results])
    evaluate = np.array([each["evaluate_seconds"] / (len(each["hurdle_losses"]) + 1) for each in results])
    charges = Charges(
        children.compile_seconds, children.train_seconds, evaluate, tape.seconds + probe, tape.valid, cached
    )
    return charges, paper.valid


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or one JSON object."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--tape", type=Path, default=TAPE, help="file of JSON lines, also compressed (.gz)")
    parser.add_argument("--replays", type=int, default=600, help="replays of the whole tape (default 600)")
    parser.add_argument("--samples", type=int, default=40, help="bootstrap samples, of 150 replays each (default 40)")
    parser.add_argument("--pairs", type=int, default=60, help="close pairs trained again (default 60)")
    parser.add_argument("--cached", type=float, help="cost of a cached compilation, relative (default: measured)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    add_json(parser)
    chosen = parser.parse_args(arguments)
    entries = read_entries([chosen.tape])
    children = children_of(entries, f"TRANSFORMER/{HEADS}")
    if children.finished.sum() <= 2 * NAMED:
        sys.exit(f"{chosen.tape} has {children.finished.sum()} finished children: record at least {2 * NAMED + 1}")
    cached = cached_compile_share() if chosen.cached is None else chosen.cached
    charges, paper = charges_of(entries, children, cached, chosen.seed)
    rng, count = np.random.default_rng(chosen.seed), len(children.names)
    whole = Comparison(draw_trainings(children, np.arange(count), chosen.replays, rng), charges)
    samples = []
    for _ in range(chosen.samples):
        sample = draw_trainings(children, rng.integers(count, size=count), min(150, chosen.replays), rng)
        samples.append([(step.factor, step.by_loss) for step in Comparison(sample, charges).steps(chosen.pairs)])
    tables = {
        "steps": _with_intervals(whole.steps(chosen.pairs), np.array(samples)),
        "pairs": [asdict(whole.pairs(pairs)[0]) for pairs in PAIRS],
        "seconds": _rows("spent on", "core_seconds", whole.seconds(whole.pairs(chosen.pairs)[1], cached)),
        "others": _rows("against or with", "factor", whole.others(chosen.pairs, float(paper.mean()))),
    }
    about = {
        **hardware("search_cost.py", arguments),
        "programs": count,
        "valid_mutations_a_new_program": round(float(charges.drawn.mean()), 3),
        "with_the_papers_mutations": round(float(paper.mean()), 3),
        "cached_compilation": round(cached, 3),
    }
    if chosen.json:
        print(json.dumps({"about": about, **tables}))
        return
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()))
    for name, rows in tables.items():
        print(f"\n{SENTENCES[name]}\n\n{text_table(rows)}")


def _least_effort(curve: np.ndarray, quality: float) -> float:
    """Return the effort at which the curve, interpolated over `EFFORTS`, reaches the quality; at most the largest."""
    place = min(max(int(np.searchsorted(curve, quality)), 1), len(EFFORTS) - 1)
    return float(np.interp(quality, curve[place - 1 : place + 1], EFFORTS[place - 1 : place + 1]))


def _with_intervals(steps: Sequence[Step], samples: np.ndarray) -> list[dict[str, Any]]:
    """Return the rows, with intervals of the factors and with `part`."""
    rows = []
    for place, step in enumerate(steps):
        (low, low_by_loss), (high, high_by_loss) = np.percentile(samples[:, place], (2.5, 97.5), axis=0).tolist()
        part = step.factor / (steps[place - 1].factor if place else 1.0)
        bounds = {"low": low, "high": high, "low_by_loss": low_by_loss, "high_by_loss": high_by_loss}
        rows.append({**asdict(step), "part": part, **bounds})
    return rows


def _rows(name: str, value: str, values: dict[str, float]) -> list[dict[str, Any]]:
    return [{name: key, value: each} for key, each in values.items()]


if __name__ == "__main__":
    main()
