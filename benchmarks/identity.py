"""Cost and correctness of a program's identity.

    python benchmarks/identity.py [--mutants N] [--processes N] [--checkpoints DIR] [--quick] [--json]

Two measurements:

1. CPU milliseconds for a child: each stage of a proposal, for mutants of the Transformer at laptop size.
2. False merges. Many mutants with distinct structure hashes are made as in a search: each is a mutation of a library
   program or of an earlier mutant, valid and proved causal. A search treats mutants with the same fingerprint as the
   same function. Here, each mutant is compared with the first one of the same fingerprint on new inputs and parameters,
   at another length and unit. If they differ, a search would have lost a new function. The comparison is repeated with
   inputs ten times as large, for information only: a clip at 30, for example, has no effect on inputs of the usual
   size.

Differences are relative to the root mean square of the outputs at a position. The second measurement omits the
causality test, which is most of a child's cost. Proved programs pass it (tests/primitives/test_causality_test.py).
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, log, processor_name
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json

STARTS = ("TRANSFORMER", "TRANSFORMER_SQUARED_RELU", "TRANSFORMER_GELU", "TRANSFORMER_PP", "TRANSFORMER_MDHA",
          "PRIMER_EZ")  # fmt: skip
SHARD = 2000
UNIT, LENGTH, SEQUENCES = 24, 11, 3
"""Sizes of the comparison; fingerprints use unit 16 and length 6."""

FALSE = 1e-5
"""Relative difference above which a merge is false: ten times the step to which fingerprints round."""


@dataclass(frozen=True)
class Mutant:
    """A valid program, its structure hash and its fingerprint."""

    dna: str
    structure: str
    function: str | None


@dataclass(frozen=True)
class Merge:
    """Two structures with the same fingerprint, and the relative difference of their outputs."""

    one: str
    other: str
    difference: float
    difference_large_inputs: float


def main() -> None:
    """Run both measurements and print the results."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--children", type=int, default=3000, help="mutants to time (default 3000)")
    parser.add_argument("--mutants", type=int, default=100_000, help="distinct mutants to group (default 100000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    parser.add_argument("--checkpoints", type=Path, help="folder of finished shards, to continue a stopped run")
    parser.add_argument("--quick", action="store_true", help="short test run: 100 children, 1000 mutants")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.children, arguments.mutants = 100, 1000
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # for the worker processes, each of which uses one core
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        stages = pool.apply(time_children, (arguments.children,))
        mutants, outcomes = grow(pool, arguments.mutants, arguments.checkpoints)
        merges = compare_groups(pool, mutants)
    report = {
        "hardware": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "milliseconds": stages,
        "mutants": len(mutants),
        "outcomes": outcomes,
        **summary(mutants, merges),
    }
    print(json.dumps(report)) if arguments.json else print_report(report)


# --- milliseconds a child ---------------------------------------------------------------------------------------


def time_children(children: int) -> dict[str, dict[str, float]]:
    """Return the median and 95th percentile of each stage, for mutants of the Transformer that pass all stages."""
    from primer_search.primitives import InvalidProgramError
    from primer_search.primitives.causality.causality_proof import prove_causal
    from primer_search.primitives.causality.causality_test import probe_block
    from primer_search.primitives.graphs.fingerprint import fingerprint
    from primer_search.primitives.programs import library
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
    """Return the rules for candidates of a search with the laptop preset."""
    from primer_search.configs.load import load
    from primer_search.primitives.programs import library
    from primer_search.search.evolution.proposals import CandidateRules

    model = load("laptop").model
    return CandidateRules.for_baseline(library.get("TRANSFORMER", model.unit), model)


# --- growing mutants --------------------------------------------------------------------------------------------


def grow(pool: Any, target: int, checkpoints: Path | None) -> tuple[list[Mutant], dict[str, int]]:
    """Return `target` mutants with distinct structures, and the number of mutations by outcome."""
    found: dict[str, Mutant] = {}
    outcomes: Counter[str] = Counter()
    started_at = time.monotonic()
    size = min(SHARD, target)
    for mutants, counted in _shards(pool, size, checkpoints):
        for mutant in mutants:
            found.setdefault(mutant.structure, mutant)
        outcomes.update(counted)
        minutes = (time.monotonic() - started_at) / 60
        log(f"{len(found):,} distinct mutants after {minutes:.1f} min")
        if len(found) >= target:
            break
    return list(found.values())[:target], dict(outcomes)


def _shards(pool: Any, size: int, checkpoints: Path | None) -> Iterator[tuple[list[Mutant], Counter[str]]]:
    waiting: list[Any] = []
    for shard in count():
        waiting.append(pool.apply_async(grow_shard, (shard, size, checkpoints)))
        if len(waiting) > pool._processes:
            yield waiting.pop(0).get()


def grow_shard(shard: int, size: int, checkpoints: Path | None = None) -> tuple[list[Mutant], Counter[str]]:
    """Return `size` mutants with distinct structures, each a mutation of an earlier one, and counts of outcomes."""
    file = None if checkpoints is None else checkpoints / f"shard-{shard}-{size}.pickle"
    if file is not None and file.is_file():
        return pickle.loads(file.read_bytes())
    from primer_search.primitives import InvalidProgramError
    from primer_search.primitives.causality.causality_proof import prove_causal
    from primer_search.primitives.graphs.fingerprint import fingerprint
    from primer_search.primitives.programs import library
    from primer_search.search.evolution.paper_mutations import mutate

    rules, rng = laptop_rules(), np.random.default_rng([3, shard])
    family = [library.get(name, rules.model.unit) for name in STARTS]
    known = {rules.build_graph(dna).structure_hash for dna in family}
    mutants: list[Mutant] = []
    outcomes: Counter[str] = Counter()
    while len(mutants) < size:
        child = mutate(family[int(rng.integers(len(family)))], rng)[0]
        try:
            graph = rules.build_graph(child)
            if graph.structure_hash not in known:
                prove_causal(graph)
        except InvalidProgramError as error:
            outcomes[f"invalid: {error.reason}"] += 1
            continue
        family.append(child)  # mutations without effect also become parents, as in a search
        if graph.structure_hash in known:
            outcomes["known structure"] += 1
            continue
        known.add(graph.structure_hash)
        mutants.append(Mutant(dna_to_json(child), graph.structure_hash, fingerprint(graph)))
        outcomes["new structure"] += 1
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps((mutants, outcomes)))
    return mutants, outcomes


# --- comparing --------------------------------------------------------------------------------------------------


def compare_groups(pool: Any, mutants: Iterable[Mutant]) -> list[Merge]:
    """Return all merges: each mutant with the first one of the same fingerprint."""
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
            log(f"{message}, after {(now - started_at) / 60:.1f} min")
    return merges


def compare_group(members: list[str]) -> list[Merge]:
    """Compare the programs of a group (as JSON) with the first."""
    from primer_search.primitives import build_graph
    from primer_search.primitives.graphs.graph import smallest_unit

    graphs = [build_graph(dna_from_json(member)) for member in members]
    unit = math.lcm(*(smallest_unit(graph, UNIT) for graph in graphs))
    first = fresh_outputs(graphs[0], unit)
    merges = []
    for member, graph in zip(members[1:], graphs[1:], strict=True):
        differences = [relative_difference(*pair) for pair in zip(first, fresh_outputs(graph, unit), strict=True)]
        merges.append(Merge(members[0], member, *differences))
    return merges


def fresh_outputs(graph: Any, unit: int, seed: int = 1_000_003) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs for inputs and parameters other than the fingerprint's, and for inputs ten times as large."""
    from primer_search.primitives.graphs.interpreter import evaluate_reference
    from primer_search.primitives.graphs.parameters import draw_parameters
    from primer_search.primitives.ops.value_types import MODEL_WIDTH

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SEQUENCES, LENGTH, MODEL_WIDTH * unit))
    parameters = draw_parameters(
        graph, unit, rng, LENGTH
    )  # in canonical order, so that equal functions get equal parameters
    return evaluate_reference(graph, parameters, x), evaluate_reference(graph, parameters, 10 * x)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference, relative to the root mean square at its position.

    The divisor is at least a millionth of the largest output. The difference is infinite if only one output is finite.
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


# --- summary ----------------------------------------------------------------------------------------------------


def summary(mutants: list[Mutant], merges: list[Merge]) -> dict[str, Any]:
    """Summarize the groups, with the differences between programs of false merges."""
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
        "false": [(merge.difference, program_difference(merge)) for merge in false[:20]],
    }


def program_difference(merge: Merge) -> str:
    """Return the difference between two programs as text."""
    from primer_search.primitives.differences.diff_printer import format_difference

    return format_difference(dna_from_json(merge.one), dna_from_json(merge.other))


def print_report(report: dict[str, Any]) -> None:
    """Print the results as text."""
    print(" ".join(f"{key}={value}" for key, value in report["hardware"].items()) + "\n")
    print(f"{'milliseconds':22}{'median':>9}{'95 %':>9}")
    for stage, taken in report["milliseconds"].items():
        print(f"{stage:22}{taken['median']:9.2f}{taken['percentile_95']:9.2f}")
    outcomes = ", ".join(f"{outcome} {number:,}" for outcome, number in sorted(report["outcomes"].items()))
    print(f"\n{report['mutants']:,} distinct valid mutants (mutations: {outcomes})")
    print(
        f"{report['not_finite']:,} without a fingerprint: not finite ({report['not_finite'] / report['mutants']:.1%})"
    )
    groups = f"{report['groups']:,} of several structures, at most {report['largest_group']:,}"
    print(f"{report['functions']:,} functions; {groups}")
    print(f"{report['merges']:,} merges, {report['false_merges']} of them false (relative difference above {FALSE:g});")
    print(f"of the others the largest difference is {report['largest_true_difference']:.1e}, and")
    print(f"{report['differ_at_ten_times']:,} differ for inputs ten times as large")
    for difference, text in report["false"]:
        print(f"\ndifference {difference:.2g}:\n{text}")


if __name__ == "__main__":
    main()
