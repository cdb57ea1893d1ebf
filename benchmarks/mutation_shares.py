"""Outcomes of single mutations of the baseline, by type, for the paper's mutations and for those of live code.

    python benchmarks/mutation_shares.py [--count 1500] [--heads 8] [--json]

A child is *invalid* (kinds, widths, size, causality, non-finite values), *silent* (the baseline's structure or
function), a *repeat* of an earlier child of the same set, or *new*. New children are also counted by their difference
from the baseline: an additional depthwise convolution, an additional product or square, or only fewer floating-point
operations.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable

import numpy as np

from primer_search.configs.load import load
from primer_search.primitives import DNA, InvalidProgramError
from primer_search.primitives.graphs.cost import block_cost
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.programs import library
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.search.evolution.proposals import CandidateRules, SeenPrograms, identify
from primer_search.search.guided.live_mutations import mutate_live

SETS: dict[str, Callable[[DNA, np.random.Generator], tuple[DNA, str]]] = {"paper": mutate, "live": mutate_live}


def main() -> None:
    """Print the shares of both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1500, help="mutations of each set (default 1500)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads of the baseline (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument("--json", action="store_true", help="print only one JSON object")
    arguments = parser.parse_args()
    shares = {name: MutationShares(arguments.heads, function) for name, function in SETS.items()}
    for each in shares.values():
        each.count(arguments.count, np.random.default_rng(arguments.seed))
    if arguments.json:
        print(json.dumps({name: each.to_dict() for name, each in shares.items()}))
        return
    for name, each in shares.items():
        print(f"\n{name}: {arguments.count} mutations of the Transformer with {arguments.heads} heads")
        print(f"{'type':20}{'drawn':>7}{'invalid':>9}{'silent':>8}{'repeat':>8}{'new':>7}")
        for kind, outcomes in sorted(each.outcomes.items()):
            total = sum(outcomes.values())
            columns = (100 * outcomes[outcome] / total for outcome in ("invalid", "silent", "repeat", "new"))
            print(f"{kind:20}{total:7}" + "".join(f"{share:7.0f}%" for share in columns))
        new = sum(outcomes["new"] for outcomes in each.outcomes.values())
        print("of the new: " + ", ".join(f"{kind} {100 * number / new:.1f}%" for kind, number in each.kinds.items()))


class MutationShares:
    """Counts of one set of mutations.

    Attributes:
        outcomes: number of children by type of mutation and outcome.
        kinds: number of new children by kind of program; a child can be of several kinds.
    """

    def __init__(self, heads: int, mutation: Callable[[DNA, np.random.Generator], tuple[DNA, str]]):
        self.model = load("laptop").model
        self.mutation = mutation
        self.baseline = library.get("TRANSFORMER", self.model.unit, heads)
        self.rules = CandidateRules.for_baseline(self.baseline, self.model)
        graph = self.rules.build_graph(self.baseline)
        self._ops = _op_counts(graph)
        self._flops = self._block_flops(graph)
        self._seen = SeenPrograms()
        self._seen.add(BASELINE_ID, graph.structure_hash, fingerprint(graph))
        self.outcomes: dict[str, Counter[str]] = {}
        self.kinds: Counter[str] = Counter()

    def count(self, number: int, rng: np.random.Generator) -> None:
        """Apply `number` mutations to the baseline and count the outcomes."""
        for _ in range(number):
            child, description = self.mutation(self.baseline, rng)
            kind = " ".join(description.split(" in ")[0].split(":")[0].split()[:3]).rstrip("0123456789 ")
            self.outcomes.setdefault(kind, Counter())[self._outcome(child)] += 1

    def to_dict(self) -> dict[str, dict]:
        """Return plain JSON values."""
        return {"outcomes": {kind: dict(each) for kind, each in self.outcomes.items()}, "kinds": dict(self.kinds)}

    def _outcome(self, child: DNA) -> str:
        try:
            identity = identify(child, self.rules, self._seen)
        except InvalidProgramError:
            return "invalid"
        if identity.same_as is not None:
            return "silent" if identity.same_as == BASELINE_ID else "repeat"
        self._seen.add(len(self._seen.structures), identity.structure_hash, identity.function)
        self._count_kinds(self.rules.build_graph(child))
        return "new"

    def _count_kinds(self, graph: Graph) -> None:
        added = _op_counts(graph) - self._ops
        if any(op.startswith("DCONV") for op in added):
            self.kinds["depthwise convolution"] += 1
        if added["SQUARE"] or added["MULTIPLY"]:
            self.kinds["square or product"] += 1
        if not added and self._block_flops(graph) <= self._flops:
            self.kinds["only smaller"] += 1

    def _block_flops(self, graph: Graph) -> float:
        return block_cost(graph, self.model.unit, self.model.length).flops_per_token


def _op_counts(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


if __name__ == "__main__":
    main()
