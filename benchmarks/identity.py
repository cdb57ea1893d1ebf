"""Is a program's identity cheap, and is it right?

    python benchmarks/identity.py [--mutants N] [--processes N] [--checkpoints DIR] [--quick] [--json]

Two measurements:

1. Milliseconds a child, of CPU time: what a proposal computes of a mutant of the Transformer at laptop size, by stage.
2. False merges: many distinct mutants (by structure hash), grown as a search grows them, each a mutation of a library
   program or of an earlier mutant, valid and proved causal. Those of one fingerprint are taken for one function. Each
   is compared with the first of its group on fresh inputs and fresh parameters, at another length and another unit:
   where they differ, a search would have thrown away a new function. The same again with inputs ten times as large,
   for information: a clip at 30 is no clip at the size inputs have.

Differences are relative to the root mean square of the outputs at a position. The probe of causality is left out of
the second (proved programs pass it: tests/primitives/test_causality_test.py), since it is most of a child's cost.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import pickle
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.primitives.program_json import dna_from_json, dna_to_json

STARTS = ("TRANSFORMER", "TRANSFORMER_SQUARED_RELU", "TRANSFORMER_GELU", "TRANSFORMER_PP", "TRANSFORMER_MDHA",
          "PRIMER_EZ")  # fmt: skip
SHARD = 2000
UNIT, LENGTH, SEQUENCES = 24, 11, 3
"""Of the comparison; fingerprints are taken at unit 16 and length 6."""

FALSE = 1e-5
"""Relative difference that makes a merge false: ten steps of the fingerprint's grid."""


@dataclass(frozen=True)
class Mutant:
    """A valid program and its identity."""

    dna: str
    structure: str
    function: str | None


@dataclass(frozen=True)
class Merge:
    """Two structures with one fingerprint, and how far their outputs differ, relative to their size."""

    one: str
    other: str
    difference: float
    difference_large_inputs: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=3000, help="mutants to time (default 3000)")
    parser.add_argument("--mutants", type=int, default=100_000, help="distinct mutants to group (default 100000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--checkpoints", type=Path, help="folder that keeps finished shards, to go on after a stop")
    parser.add_argument("--quick", action="store_true", help="see that it works: 100 children, 1000 mutants")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.children, arguments.mutants = 100, 1000
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the processes that are started: each has one core
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        stages = pool.apply(time_children, (arguments.children,))
        mutants, fates = grow(pool, arguments.mutants, arguments.checkpoints)
        merges = compare_groups(pool, mutants)
    report = {
        "hardware": hardware(),
        "milliseconds": stages,
        "mutants": len(mutants),
        "fates": fates,
        **summary(mutants, merges),
    }
    print(json.dumps(report)) if arguments.json else print_report(report)


# --- milliseconds a child ---------------------------------------------------------------------------------------


def time_children(children: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each stage for mutants of the Transformer that pass all of them: median and 95th percentile."""
    from primer_search.primitives import InvalidProgramError, library
    from primer_search.primitives.causality_proof import prove_causal
    from primer_search.primitives.causality_test import probe_block
    from primer_search.primitives.fingerprint import fingerprint
    from primer_search.search.evolution.paper_mutations import mutate

    rules, rng = laptop_rules(), np.random.default_rng(0)
    parent = library.get("TRANSFORMER", rules.model.unit)
    taken: dict[str, list[float]] = defaultdict(list)
    while len(taken["child"]) < children:
        times = [time.process_time()]
        try:
            mutant = mutate(parent, rng)[0]
            times.append(time.process_time())
            graph = rules.build_graph(mutant)
            _ = graph.structure_hash
            times.append(time.process_time())
            for stage in (prove_causal, probe_block, fingerprint):
                stage(graph)
                times.append(time.process_time())
        except InvalidProgramError:
            continue
        names = ("mutation", "structure", "proof of causality", "probe of causality", "fingerprint")
        for name, seconds in zip(names, np.diff(times), strict=True):
            taken[name].append(1000 * seconds)
        taken["child"].append(1000 * (times[-1] - times[0]))
    return {
        name: {"median": float(np.median(values)), "percentile_95": float(np.percentile(values, 95))}
        for name, values in taken.items()
    }


def laptop_rules() -> Any:
    """What a child of a search with the laptop preset must obey."""
    from primer_search.configs.load import load
    from primer_search.primitives import library
    from primer_search.search.evolution.proposals import CandidateRules

    model = load("laptop").model
    return CandidateRules.for_baseline(library.get("TRANSFORMER", model.unit), model)


# --- growing mutants --------------------------------------------------------------------------------------------


def grow(pool: Any, target: int, checkpoints: Path | None) -> tuple[list[Mutant], dict[str, int]]:
    """So many mutants of distinct structure, and how many mutations met which fate."""
    found: dict[str, Mutant] = {}
    fates: Counter[str] = Counter()
    started_at = time.monotonic()
    size = min(SHARD, target)
    for mutants, met in _shards(pool, size, checkpoints):
        for mutant in mutants:
            found.setdefault(mutant.structure, mutant)
        fates.update(met)
        minutes = (time.monotonic() - started_at) / 60
        print(f"{len(found):,} distinct mutants after {minutes:.1f} min", file=sys.stderr, flush=True)
        if len(found) >= target:
            break
    return list(found.values())[:target], dict(fates)


def _shards(pool: Any, size: int, checkpoints: Path | None) -> Iterator[tuple[list[Mutant], Counter[str]]]:
    waiting: list[Any] = []
    for shard in count():
        waiting.append(pool.apply_async(grow_shard, (shard, size, checkpoints)))
        if len(waiting) > pool._processes:
            yield waiting.pop(0).get()


def grow_shard(shard: int, size: int, checkpoints: Path | None = None) -> tuple[list[Mutant], Counter[str]]:
    """A family of `size` mutants of distinct structure: each is a mutation of a drawn earlier one."""
    file = None if checkpoints is None else checkpoints / f"shard-{shard}-{size}.pickle"
    if file is not None and file.is_file():
        return pickle.loads(file.read_bytes())
    from primer_search.primitives import InvalidProgramError, library
    from primer_search.primitives.causality_proof import prove_causal
    from primer_search.primitives.fingerprint import fingerprint
    from primer_search.search.evolution.paper_mutations import mutate

    rules, rng = laptop_rules(), np.random.default_rng([3, shard])
    family = [library.get(name, rules.model.unit) for name in STARTS]
    known = {rules.build_graph(dna).structure_hash for dna in family}
    mutants: list[Mutant] = []
    fates: Counter[str] = Counter()
    while len(mutants) < size:
        child = mutate(family[int(rng.integers(len(family)))], rng)[0]
        try:
            graph = rules.build_graph(child)
            if graph.structure_hash not in known:
                prove_causal(graph)
        except InvalidProgramError as error:
            fates[f"invalid: {error.reason}"] += 1
            continue
        family.append(child)  # silent mutations stay, as in a search
        if graph.structure_hash in known:
            fates["known structure"] += 1
            continue
        known.add(graph.structure_hash)
        mutants.append(Mutant(dna_to_json(child), graph.structure_hash, fingerprint(graph)))
        fates["new structure"] += 1
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps((mutants, fates)))
    return mutants, fates


# --- comparing --------------------------------------------------------------------------------------------------


def compare_groups(pool: Any, mutants: Iterable[Mutant]) -> list[Merge]:
    """Every merge: each later member of a group of one fingerprint with the group's first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for mutant in mutants:
        if mutant.function is not None:
            groups[mutant.function].append(mutant.dna)
    merged = [members for members in groups.values() if len(members) > 1]
    merges: list[Merge] = []
    started_at = reported_at = time.monotonic()
    for done, found in enumerate(pool.imap_unordered(compare_group, merged, chunksize=8), 1):
        merges += found
        if (now := time.monotonic()) > reported_at + 15:
            reported_at = now
            false = sum(merge.difference > FALSE for merge in merges)
            message = f"{done:,} of {len(merged):,} groups, {len(merges):,} merges, {false} false"
            print(f"{message}, after {(now - started_at) / 60:.1f} min", file=sys.stderr, flush=True)
    return merges


def compare_group(members: list[str]) -> list[Merge]:
    """Compare the programs of a group (as JSON) with its first."""
    from primer_search.primitives import build_graph
    from primer_search.primitives.graph import smallest_unit

    graphs = [build_graph(dna_from_json(member)) for member in members]
    unit = math.lcm(*(smallest_unit(graph, UNIT) for graph in graphs))
    first = fresh_outputs(graphs[0], unit)
    merges = []
    for member, graph in zip(members[1:], graphs[1:], strict=True):
        differences = [relative_difference(*pair) for pair in zip(first, fresh_outputs(graph, unit), strict=True)]
        merges.append(Merge(members[0], member, *differences))
    return merges


def fresh_outputs(graph: Any, unit: int, seed: int = 1_000_003) -> tuple[np.ndarray, np.ndarray]:
    """Outputs for inputs and parameters that no fingerprint has met; and for inputs ten times as large."""
    from primer_search.primitives.interpreter import evaluate_reference
    from primer_search.primitives.parameters import draw_parameters
    from primer_search.primitives.value_types import MODEL_WIDTH

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SEQUENCES, LENGTH, MODEL_WIDTH * unit))
    parameters = draw_parameters(graph, unit, rng, LENGTH)  # in canonical order: twins get the same
    return evaluate_reference(graph, parameters, x), evaluate_reference(graph, parameters, 10 * x)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference, relative to the root mean square at its position (a millionth of the largest, at least).

    Infinite where only one of the two is finite.
    """
    finite = np.isfinite(one) & np.isfinite(other)
    if np.any(np.isfinite(one) != np.isfinite(other)):
        return math.inf
    if not np.any(finite):
        return 0.0
    largest = max(float(np.abs(one[finite]).max()), float(np.abs(other[finite]).max()), 1e-300)
    a, b = (np.where(finite, values, 0) / largest for values in (one, other))
    size = np.sqrt(np.mean(np.square(a), axis=-1, keepdims=True))
    return float((np.abs(a - b) / np.maximum(size, 1e-6)).max())


# --- summing up -------------------------------------------------------------------------------------------------


def summary(mutants: list[Mutant], merges: list[Merge]) -> dict[str, Any]:
    """What the groups say; the false merges with what tells their programs apart."""
    sizes = Counter(mutant.function for mutant in mutants if mutant.function is not None)
    false = sorted((merge for merge in merges if merge.difference > FALSE), key=lambda merge: -merge.difference)
    return {
        "not_finite": sum(mutant.function is None for mutant in mutants),
        "functions": len(sizes),
        "groups": sum(size > 1 for size in sizes.values()),
        "largest_group": max(sizes.values(), default=0),
        "merges": len(merges),
        "false_merges": len(false),
        "largest_true_difference": max((merge.difference for merge in merges if merge.difference <= FALSE), default=0),
        "differ_at_ten_times": sum(merge.difference_large_inputs > FALSE for merge in merges) - len(false),
        "false": [(merge.difference, distinction(merge)) for merge in false[:20]],
    }


def distinction(merge: Merge) -> str:
    """What tells two programs apart, as the lines of a difference."""
    from primer_search.primitives.diff_printer import format_difference

    return format_difference(dna_from_json(merge.one), dna_from_json(merge.other))


def hardware() -> dict[str, Any]:
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def print_report(report: dict[str, Any], say: Callable[[str], None] = print) -> None:
    say(" ".join(f"{key}={value}" for key, value in report["hardware"].items()) + "\n")
    say(f"{'milliseconds':22}{'median':>9}{'95 %':>9}")
    for stage, taken in report["milliseconds"].items():
        say(f"{stage:22}{taken['median']:9.2f}{taken['percentile_95']:9.2f}")
    fates = ", ".join(f"{fate} {number:,}" for fate, number in sorted(report["fates"].items()))
    say(f"\n{report['mutants']:,} distinct valid mutants (mutations: {fates})")
    say(f"{report['not_finite']:,} without a fingerprint: not finite ({report['not_finite'] / report['mutants']:.1%})")
    groups = f"{report['groups']:,} of several structures, at most {report['largest_group']:,}"
    say(f"{report['functions']:,} functions; {groups}")
    say(f"{report['merges']:,} merges, {report['false_merges']} of them false (relative difference above {FALSE:g});")
    say(f"of the others the largest difference is {report['largest_true_difference']:.1e}, and")
    say(f"{report['differ_at_ten_times']:,} differ for inputs ten times as large")
    for difference, words in report["false"]:
        say(f"\ndifference {difference:.2g}:\n{words}")


if __name__ == "__main__":
    main()
