"""Record the tape: trainings of many children to the end, with learning curves and prices.

    python benchmarks/record_tape.py TAPE.jsonl --heads 8,4,2,1            the baseline and PRIMER_EZ by number of heads
    python benchmarks/record_tape.py TAPE.jsonl --rates 5e-3,1e-2          the same by learning rate
    python benchmarks/record_tape.py TAPE.jsonl --children 300             children of a search that stops none of them
    python benchmarks/record_tape.py TAPE.jsonl --repeats 60               the best 60 once more, with another seed
    python benchmarks/record_tape.py TAPE.jsonl --prices                   steps timed again, on a quiet machine

Every training takes the same number of steps at the `laptop` preset, 1.1 times the budget, and is evaluated several
times. Its step is timed in turns with the baseline's. So any rule that stops trainings early, prices steps, or chooses
parents can be replayed on the tape without training (benchmarks/replay_tape.py).

Children come from mutations of live code, the paper's mutations, and merges, in fixed shares; half of the parents are
the baseline, and half are drawn from the best quarter so far. New lines are added to the file: run the command again to
continue, or run two commands at once with different `--seed`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from primer_search.benchmarks.paired_times import paired_ratio, run_interleaved
from primer_search.configs.load import load
from primer_search.primitives import DNA, InvalidProgramError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.search.evolution.proposals import CandidateRules, SeenPrograms, identify
from primer_search.search.guided.live_mutations import mutate_live
from primer_search.search.guided.recombination import merge_programs
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.protocol import HurdleThreshold, TrialRequest
from primer_search.workers.training.relative_timer import ReferenceStep
from primer_search.workers.training.trial import CandidateTrainer

POINTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0)
"""Shares of the budget at which a training is evaluated, in addition to its end at 1.1."""

SHARES = {"live": 0.45, "paper": 0.35, "merge": 0.2}
"""Share of children by origin; merges need 20 trained children, and until then live mutations replace them."""

PRICE_SLOPE = 0.4
"""Nats by which the loss falls if the number of steps grows by a factor e; the price of a step of e times the time."""

ROUNDS = 15
"""Number of timings of a child and of the baseline, in turns, each of `ROUND_SECONDS`."""

ROUND_SECONDS = 0.08


@dataclass(frozen=True)
class Entry:
    """One line of the tape: a program, its origin, and the result of one training.

    Attributes:
        kind: origin (`library`, `live`, `paper` or `merge`); `repeat`: another training of an earlier entry; `price`:
            another timing of an earlier entry, without a training.
        name: id of the program in the tape; repeats share it.
        parents: names of the parents.
        mutations: descriptions of the edits.
        dna: program as JSON text.
        seed: random seed of the training.
        evaluation: the evaluation's JSON values.
    """

    kind: str
    name: str
    parents: tuple[str, ...]
    mutations: tuple[str, ...]
    dna: str
    seed: int
    evaluation: dict[str, Any]

    @property
    def final_loss(self) -> float:
        """Loss at the budget; infinite for a failure, and without a training."""
        trained = self.kind != "price" and self.evaluation["outcome"] == "ok"
        return self.evaluation["hurdle_losses"][len(POINTS) - 1] if trained else math.inf

    @property
    def fitness(self) -> float:
        """Loss at the budget, plus the price of a step that is slower than the baseline's; infinite for a failure."""
        price = self.evaluation["relative_step"]
        return self.final_loss + PRICE_SLOPE * max(0.0, math.log(price)) if price else math.inf


def main() -> None:
    """Record the trainings that the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tape", type=Path, help="file of JSON lines; new lines are added")
    parser.add_argument("--heads", default="", help="numbers of heads of the baseline and PRIMER_EZ, with commas")
    parser.add_argument("--rates", default="", help="learning rates of the baseline and PRIMER_EZ, with commas")
    parser.add_argument("--trainings", type=int, default=4, help="trainings of each with --heads, --rates (default 4)")
    parser.add_argument("--children", type=int, default=0, help="children to record, in the whole file")
    parser.add_argument("--repeats", type=int, default=0, help="best children to train once more")
    parser.add_argument("--prices", action="store_true", help="time the steps of all children once more")
    parser.add_argument("--baseline-heads", type=int, default=8, help="heads of the children's baseline (default 8)")
    parser.add_argument("--steps", type=int, default=1000, help="budget in optimizer steps (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the proposals (default 0)")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    recorder = Recorder(arguments.tape, arguments.steps, arguments.baseline_heads, arguments.seed)
    heads = [int(number) for number in arguments.heads.split(",") if number]
    recorder.record_heads(heads, arguments.trainings)
    rates = [float(rate) for rate in arguments.rates.split(",") if rate]
    recorder.record_rates(rates, arguments.baseline_heads, arguments.trainings)
    recorder.record_children(arguments.children)
    recorder.record_repeats(arguments.repeats)
    if arguments.prices:
        recorder.record_prices()


class Recorder:
    """Recorder: it trains programs and appends the results to the tape."""

    def __init__(self, tape: Path, steps: int, heads: int, seed: int):
        config = load("laptop")
        trial = replace(config.trial, unit="steps", budget_steps=steps * 11 // 10, price=True, hurdles=0)
        self.tape = tape
        self.points = tuple(HurdleThreshold(round(share * steps), None) for share in POINTS)
        self.baseline = library.get("TRANSFORMER", config.model.unit, heads)
        self.unit = config.model.unit
        self.learning_rate = config.optimizer.learning_rate
        dataset = prepare_dataset(config.data, config.model.vocabulary)
        reference = dna_to_json(self.baseline)
        self._trainer_with = partial(CandidateTrainer, config.model, trial, config.optimizer, str(dataset))
        self.trainer = self._trainer_with(reference)
        self.rules = CandidateRules.for_baseline(self.baseline, self.trainer.model)
        self.known = SeenPrograms()
        self.known.add(0, self.rules.build_graph(self.baseline).structure_hash, None)
        self.read: set[str] = set()
        self.seed = seed
        self.rng = np.random.default_rng((seed, int(time.time())))

    def entries(self) -> list[Entry]:
        """Return all lines of the tape, with those of other processes."""
        if not self.tape.exists():
            return []
        return [Entry(**json.loads(line)) for line in self.tape.read_text().splitlines()]

    def record_heads(self, heads: Sequence[int], trainings: int) -> None:
        """Train the baseline and PRIMER_EZ with each number of heads, in turns."""
        self._record_library([(f"/{number}", number, None) for number in heads], trainings)

    def record_rates(self, rates: Sequence[float], heads: int, trainings: int) -> None:
        """Train the baseline and PRIMER_EZ at each learning rate, in turns."""
        self._record_library([(f"@{rate:g}", heads, rate) for rate in rates], trainings)

    def _record_library(self, variants: Sequence[tuple[str, int, float | None]], trainings: int) -> None:
        """Train both programs in each variant (suffix of the label, number of heads, learning rate)."""
        for training in range(trainings):
            for name in ("TRANSFORMER", "PRIMER_EZ"):
                for ending, heads, rate in variants:
                    label = name + ending
                    if sum(entry.name == label for entry in self.entries()) <= training:
                        dna = dna_to_json(library.get(name, self.unit, heads))
                        self.train("library", label, (), (), dna, rate)

    def record_children(self, count: int) -> None:
        """Propose and train children until the tape has `count` of them."""
        while True:
            entries = [entry for entry in self.entries() if entry.kind in SHARES]
            if len(entries) >= count:
                return
            kind, parents, mutations, dna = self.propose(entries)
            self.train(kind, f"{self.seed}-{len(entries)}-{int(time.time())}", parents, mutations, dna_to_json(dna))

    def record_repeats(self, count: int) -> None:
        """Train the best `count` children once more, the best first, except those that were already repeated."""
        children = (entry for entry in self.entries() if entry.kind in SHARES)
        for entry in sorted(children, key=lambda entry: entry.fitness)[:count]:
            if entry.name not in {each.name for each in self.entries() if each.kind == "repeat"}:
                self.train("repeat", entry.name, entry.parents, entry.mutations, entry.dna)

    def record_prices(self) -> None:
        """Time the steps of all programs that trained to the budget, in turns with the baseline's, once."""
        kept = {entry.name: entry for entry in self.entries() if math.isfinite(entry.final_loss)}
        reference = self.trainer.reference_step
        for name in map(str, self.rng.permutation(list(kept))):  # two processes with different seeds share it
            if any(each.kind == "price" and each.name == name for each in self.entries()):
                continue
            child = self._trainer_with(kept[name].dna).reference_step
            runs = {"child": partial(_step_seconds, child), "baseline": partial(_step_seconds, reference)}
            times = run_interleaved(runs, ROUNDS)
            ratio = paired_ratio(times["child"], times["baseline"])
            self._append(Entry("price", name, (), (), "", 0, {"outcome": "ok", "relative_step": ratio.median}))
            print(f"price   {name:28} {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})", flush=True)
            jax.clear_caches()

    def propose(self, entries: Sequence[Entry]) -> tuple[str, tuple[str, ...], tuple[str, ...], DNA]:
        """Return kind, parents, edits and program of a valid child that is not on the tape."""
        for entry in entries:
            if entry.name not in self.read:
                self.read.add(entry.name)
                structure = self.rules.build_graph(dna_from_json(entry.dna)).structure_hash
                self.known.add(len(self.read), structure, None)
        ranked = sorted((entry for entry in entries if math.isfinite(entry.fitness)), key=lambda entry: entry.fitness)
        best = ranked[: max(1, len(ranked) // 4)]
        while True:
            kind = str(self.rng.choice(list(SHARES), p=list(SHARES.values())))
            if kind == "merge" and len(entries) < 20:
                kind = "live"
            proposal = self._merged(best, entries) if kind == "merge" else self._mutated(kind, best)
            if proposal is None:
                continue
            parents, mutations, dna = proposal
            try:
                identity = identify(dna, self.rules, self.known)
            except InvalidProgramError:
                continue
            if identity.same_as is None:
                return kind, parents, mutations, dna

    def _mutated(self, kind: str, best: Sequence[Entry]) -> tuple[tuple[str, ...], tuple[str, ...], DNA]:
        parent = None if not best or self.rng.random() < 0.5 else best[int(self.rng.integers(len(best)))]
        dna = self.baseline if parent is None else dna_from_json(parent.dna)
        child, description = (mutate_live if kind == "live" else mutate)(dna, self.rng)
        return (() if parent is None else (parent.name,)), (description,), child

    def _merged(
        self, best: Sequence[Entry], entries: Sequence[Entry]
    ) -> tuple[tuple[str, ...], tuple[str, ...], DNA] | None:
        """Return a merge of two of the best, if there is a program with exactly the edits that both have."""
        one, other = (best[int(place)] for place in self.rng.choice(len(best), size=2, replace=False))
        edits = edit_sets(entries)
        shared = edits[one.name] & edits[other.name]
        ancestors = [dna_from_json(entry.dna) for entry in entries if edits[entry.name] == shared]
        if not shared:
            ancestors = [self.baseline]
        if not ancestors or shared in (edits[one.name], edits[other.name]):
            return None
        child = merge_programs(ancestors[0], dna_from_json(one.dna), dna_from_json(other.dna))
        return None if child is None else ((one.name, other.name), ("Merge",), child)

    def train(
        self,
        kind: str,
        name: str,
        parents: tuple[str, ...],
        mutations: tuple[str, ...],
        dna: str,
        rate: float | None = None,
    ) -> None:
        """Train a program once, at the preset's learning rate or at `rate`, and append the result."""
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        start = time.perf_counter()
        factor = 1.0 if rate is None else rate / self.learning_rate
        request = TrialRequest(0, 0, dna, seed, self.points, learning_rate_factor=factor)
        evaluation = self.trainer.run(request, lambda progress: None).to_dict()
        entry = Entry(kind, name, parents, mutations, dna, seed, evaluation)
        self._append(entry)
        price = evaluation["relative_step"]
        print(
            f"{kind:8}{name:28} {evaluation['outcome']:12} fitness {entry.fitness:.4f}, "
            f"price {price or math.nan:.3f}, {time.perf_counter() - start:.0f} s  {'; '.join(mutations)[:90]}",
            flush=True,
        )

    def _append(self, entry: Entry) -> None:
        with self.tape.open("a") as file:
            file.write(json.dumps(entry.__dict__) + "\n")


def _step_seconds(step: ReferenceStep) -> float:
    """Return the seconds of a step in one timing."""
    seconds, steps = step.time(ROUND_SECONDS)
    return seconds / steps


def edit_sets(entries: Sequence[Entry]) -> dict[str, frozenset[str]]:
    """Return the edits of each child: those of its parents and, unless it is a merge, its own, named by the child."""
    edits: dict[str, frozenset[str]] = {}
    for entry in entries:
        own = frozenset() if entry.kind == "merge" else frozenset({entry.name})
        edits[entry.name] = own.union(*(edits[parent] for parent in entry.parents))
    return edits


if __name__ == "__main__":
    sys.exit(main())
