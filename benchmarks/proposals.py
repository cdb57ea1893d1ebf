"""Number of children that a search proposes per second on one core, also with many stored candidates.

    OPENBLAS_NUM_THREADS=1 python benchmarks/proposals.py [--children 20] [--blocks 7] [--stored 1000 1000000] [--json]

A child is a program that is valid and new; several mutations may be tried for it. Two strategies propose children of
one parent: the paper's evolution with its six mutations, and the guided search, which draws 16 mutations of live code
for most children and takes one of them. `all checks` is `ask` and `add` of the strategy, as in a run. `structures` is
`propose` with `structure_only`: children are compared by their canonical graphs, without the proof of causality, the
fingerprint and the causality test; its guided mutation is `mutate_live`, without the choice among 16.

Parents are TRANSFORMER, PRIMER_EZ, and the TRANSFORMER enlarged by mutations of live code. The stored candidates are
synthetic, with random hashes. In the guided search, 60 real candidates with results are added.

Times are CPU times of this process, which is pinned to one core if the system supports it. Children are proposed in
blocks with fixed random seeds. Each number is the median of the blocks, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log, pin_to_last_core
from primer_search.configs.load import load
from primer_search.primitives import DNA, InvalidProgramError
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate
from primer_search.search.evolution.paper_mutations import Mutation, mutate
from primer_search.search.evolution.proposals import CandidateRules, SeenPrograms, identify, propose
from primer_search.search.evolution.search_strategy import SearchStrategy
from primer_search.search.guided.live_mutations import mutate_live
from primer_search.search.guided.make_strategy import make_strategy
from primer_search.search.guided.stop_rule import POINTS
from primer_search.workers.protocol import Evaluation

STRATEGIES: dict[str, Mutation] = {"evolution": mutate, "guided": mutate_live}
GROWN = (60, 120)
"""Numbers of nodes in the canonical graphs of the enlarged parents."""

RESULTS = 60
"""Number of candidates with a result in the guided search with stored candidates."""

Measure = Callable[[int, int], None]
"""Function that proposes children, given the number of the block and the number of children."""


def main() -> None:
    """Run the benchmark and print two tables."""
    arguments = _arguments()
    pin_to_last_core()
    about = hardware("proposals.py")
    parents = [_parent_row(name, dna, arguments) for name, dna in _parents().items()]
    stored = [_stored_row(count, arguments) for count in arguments.stored]
    if arguments.json:
        print(json.dumps({"about": about, "parents": parents, "stored": stored}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "command"))
    print("\nchildren proposed a second: median [lowest, highest block]\n")
    print(f"{'parent':14}{'nodes':>6}" + "".join(f"{name:>26}" for name in _columns()))
    for row in parents:
        print(f"{row['parent']:14}{row['nodes']:6}" + "".join(f"{_spread(row[name]):>26}" for name in _columns()))
    print(
        f"\n{'stored candidates':20}" + "".join(f"{name:>26}" for name in STRATEGIES) + "    (TRANSFORMER, all checks)"
    )
    for row in stored:
        print(f"{row['stored']:<20,}" + "".join(f"{_spread(row[name]):>26}" for name in STRATEGIES))


# --- parents ----------------------------------------------------------------------------------------------------


def _parents() -> dict[str, DNA]:
    model = load("laptop").model
    parents = {name: model.library_program(name) for name in ("TRANSFORMER", "PRIMER_EZ")}
    for nodes in GROWN:
        parents[f"grown to {nodes}"] = _grown(parents["TRANSFORMER"], nodes)
    return parents


def _grown(dna: DNA, nodes: int) -> DNA:
    """Return the program after mutations of live code, each valid and larger, until its graph has `nodes` nodes."""
    rng, rules = np.random.default_rng(1), replace(_rules(dna), max_parameters=10**9)
    size = len(rules.build_graph(dna).nodes)
    while size < nodes:
        child = mutate_live(dna, rng)[0]
        try:
            larger = len(rules.build_graph(child).nodes)
            if larger > size:
                identify(child, rules, SeenPrograms())
                dna, size = child, larger
        except InvalidProgramError:
            continue
    return dna


def _rules(baseline: DNA) -> CandidateRules:
    return CandidateRules.for_baseline(baseline, load("laptop").model)


def _parent_row(name: str, dna: DNA, arguments: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"parent": name, "nodes": len(_rules(dna).build_graph(dna).nodes)}
    for strategy, mutation in STRATEGIES.items():
        for column, measure in (("all checks", _all_checks(strategy, dna)), ("structures", _structures(mutation, dna))):
            row[f"{strategy}, {column}"] = _speeds(measure, arguments)
            log(f"{name}, {strategy}, {column}: {_spread(row[f'{strategy}, {column}'])}")
    return row


def _columns() -> list[str]:
    return [f"{strategy}, {column}" for strategy in STRATEGIES for column in ("all checks", "structures")]


# --- what is measured -------------------------------------------------------------------------------------------


def _all_checks(strategy: str, dna: DNA) -> Measure:
    search = make_strategy(_config(strategy), 0, dna)
    return lambda block, children: _ask(search, children)


def _ask(search: SearchStrategy, children: int) -> None:
    for _ in range(children):
        candidate, proposal = search.ask()
        search.add(candidate, proposal.function, proposal.edits)


def _structures(mutation: Mutation, dna: DNA) -> Measure:
    rules, known = _rules(dna), SeenPrograms()
    parent = Candidate(BASELINE_ID, dna, None, (), rules.build_graph(dna).structure_hash)
    known.add(BASELINE_ID, parent.structure_hash, None)
    accumulate = mutation is mutate

    def measure(block: int, children: int) -> None:
        for child in range(children):
            rng = np.random.default_rng((block, child))
            found = propose(parent, rng, rules, known, 1000, mutation, accumulate, structure_only=True)
            known.add(len(known.structures), found.structure_hash, None)

    return measure


def _stored_row(count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"stored": count}
    for strategy in STRATEGIES:
        search = _with_stored(strategy, count)
        row[strategy] = _speeds(lambda block, children, search=search: _ask(search, children), arguments)
        log(f"{count:,} stored, {strategy}: {_spread(row[strategy])}")
    return row


def _with_stored(strategy: str, count: int) -> SearchStrategy:
    """Return a search with `count` candidates, most of them synthetic; in a guided search, 60 have a result."""
    config = _config(strategy)
    dna = config.model.library_program("TRANSFORMER")
    search = make_strategy(config, 0, dna)
    rng = np.random.default_rng(0)
    if strategy == "guided":
        for _ in range(config.search.baseline_trials):
            search.tell(BASELINE_ID, _evaluation(4.0))
        while search.next_id <= RESULTS:
            _ask(search, 1)
            search.tell(search.next_id - 1, _evaluation(4.0 + 0.05 * float(rng.standard_normal())))
    while search.next_id < count:
        number, hashes = search.next_id, rng.bytes(32).hex()
        search.add(Candidate(number, dna, BASELINE_ID, (), hashes[:32]), hashes[32:], edits=(number,))
    return search


def _evaluation(loss: float) -> Evaluation:
    losses = tuple(loss - 0.4 * float(np.log(point)) for point in POINTS)
    return Evaluation(
        "ok", loss_nats=loss, hurdle_losses=losses, relative_step=1.0,
        step_flops=1e9, step_bytes=1e8, step_transcendentals=1e6,
    )  # fmt: skip


def _config(strategy: str) -> RunConfig:
    config = load("laptop")
    return replace(config, search=replace(config.search, strategy=strategy))


# --- times ------------------------------------------------------------------------------------------------------


def _speeds(measure: Measure, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the children a CPU second: median, lowest and highest of the blocks."""
    measure(arguments.blocks, 3)  # the first children are slower: modules are imported and functions compiled
    speeds = []
    for block in range(arguments.blocks):
        start = time.process_time()
        measure(block, arguments.children)
        speeds.append(arguments.children / (time.process_time() - start))
    return {"median": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds)}


def _spread(speeds: dict[str, float]) -> str:
    return f"{speeds['median']:.0f} [{speeds['lowest']:.0f}, {speeds['highest']:.0f}]"


def _arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--children", type=int, default=20, help="children of a block (default 20)")
    parser.add_argument("--blocks", type=int, default=7, help="blocks of each measurement (default 7)")
    parser.add_argument(
        "--stored", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000], help="numbers of stored candidates"
    )
    parser.add_argument("--quick", action="store_true", help="short test run: 3 blocks of 5 children, 100 stored")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.children, arguments.blocks, arguments.stored = 5, 3, [100]
    return arguments


if __name__ == "__main__":
    main()
