"""Agreement between the causality proof and the causality tests, in NumPy and in the language model.

    python benchmarks/causality_agreement.py [--programs 10000] [--models 300] [--seed 0]

Programs are drawn in four families of equal size: random programs over all ops (`random`); random programs with scores,
over the ops that move information between positions (`mixing`); descendants of library programs (`library`); and
mutants of leaky programs and of library programs (`border`). Each valid program is judged independently by the proof
(`prove_causal`) and by the test in float64 (`probe_block`). The proof must not accept a program that the test refuses.
Programs that only the proof refuses are counted by the op that the proof names; there the proof is stricter than
necessary.

Some of the programs that both accept then run in the language model (one layer, unit 2, length 16): they are probed
before training, trained for a few steps by AdamW, and probed again. None may be refused for causality. The largest
change of a logit that must not change shows the effect of rounding.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import jax
import numpy as np

from primer_search.benchmarks.options_and_hardware import benchmark_parser, log, processor_name
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import DNA, OPS, Graph, InvalidProgramError, build_graph
from primer_search.primitives.causality.causality_proof import prove_causal
from primer_search.primitives.causality.causality_test import LENGTH, probe_block
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters, parameter_count
from primer_search.primitives.ops.value_types import MODEL_WIDTH, Kind
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import BRANCHES, RELATIVE_DIMENSIONS, Instruction, Subprogram
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS
from primer_search.search.evolution.paper_mutations import MUTATIONS, mutate
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions
from primer_search.workers.training.trial_probes import ProbeFault, probe_causality, probe_finite, probe_trained_model

MIXING = (
    "T_MAT_MUL", "T_MAT_MUL", "MAT_MUL", "MAT_MUL", *["MASK"] * 8, "EXP", "RED_SUM", "RED_MEAN", "RED_MAX", "RED_MIN",
    "RED_PROD", "CUM_SUM", "CUM_PROD", "DIVIDE", "MULTIPLY", "ADD", "DIFFERENCE", "ABS", "RECIP", "SIGN", "TANH", "COS",
    "LOG", "SHIFT", "SCALE", "CONV_1X1", "DCONV_3X1", "MAX", "C_MUL",
)  # fmt: skip
FAMILIES = ("random", "mixing", "library", "border")
LARGEST_SIZE = 300_000
"""Largest number of parameters. Larger programs take seconds each and test nothing else."""

RETRIES = 5
"""Seeds of the test for programs that only the proof refuses."""

MODEL = ModelConfig(layers=1, unit=2, length=16, vocabulary=300, length_dependent=True)
BATCH, STEPS = 4, 5
COMPILER_OPTIONS = {"xla_backend_optimization_level": 0}
"""Options that halve the compile time: LLVM does not optimize, only XLA does."""

LARGEST_GRAPH = 60
"""Largest number of nodes of a compiled program. Most have far fewer."""


@dataclass
class Tally:
    """Counts of both parts."""

    invalid: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refused_by_proof: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    rounded: int = 0
    structures: set[str] = field(default_factory=set)
    disagreements: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    largest_change: float = 0.0
    probe_seconds: float = 0.0


def main() -> None:
    """Run both parts and print the tables; exit with 1 after a crash or a disagreement."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--programs", type=int, default=10_000, help="programs to judge (default 10000)")
    parser.add_argument("--models", type=int, default=300, help="programs to train (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    arguments = parser.parse_args()
    tally, start = Tally(), time.perf_counter()
    accepted = judge_blocks(arguments.programs, arguments.seed, tally)
    block_seconds = time.perf_counter() - start
    start = time.perf_counter()
    judge_models(accepted, arguments.models, arguments.seed, tally)
    print(f"$ python {' '.join(sys.argv)}")
    print(hardware())
    print_blocks(tally, block_seconds)
    if arguments.models:
        print_models(tally, time.perf_counter() - start)
    for line in (*tally.disagreements, *tally.crashes):
        print(f"\n{line}")
    sys.exit(1 if tally.disagreements or tally.crashes else 0)


def judge_blocks(count: int, seed: int, tally: Tally) -> dict[str, list[DNA]]:
    """Judge `count` programs in NumPy; return those that proof and test accept, by family."""
    accepted: dict[str, list[DNA]] = {family: [] for family in FAMILIES}
    for number, (family, dna, graph) in enumerate(built_programs(count, seed, tally), 1):
        if judge(family, dna, graph, tally) == "accept":
            accepted[family].append(dna)
        if number % 1000 == 0:
            log(f"{number} programs, {len(tally.disagreements)} disagreements, {len(tally.crashes)} crashes")
    return accepted


def judge(family: str, dna: DNA, graph: Graph, tally: Tally) -> str:
    """Judge one program and count the verdicts; return the common verdict, or `disagree` or `crash`."""
    try:
        proof, message = judged(lambda: prove_causal(graph))
        start = time.perf_counter()
        test, _ = judged(lambda: probe_block(graph))
        tally.probe_seconds += time.perf_counter() - start
        if proof == "causality" and test == "accept":
            found = any(judged(lambda seed=seed: probe_block(graph, seed))[0] != "accept" for seed in range(1, RETRIES))
            test = "found later" if found else "accept"
            if not found:
                op = re.search(r"future: (\w+) at", message)
                tally.refused_by_proof[op.group(1) if op else "?", family] += 1
    except Exception:  # noqa: BLE001 - crashes are what is counted
        tally.crashes.append(f"crash: {dna_to_json(dna)}\n{traceback.format_exc()}")
        return "crash"
    tally.verdicts[family, proof, test] += 1
    if proof == "accept" and test == "causality":
        smallest = minimized(dna, disagrees)
        why = judged(lambda: probe_block(build_graph(smallest)))[1]
        only_rounding = is_rounding(build_graph(smallest))
        tally.rounded += only_rounding
        kind = "only rounding" if only_rounding else "accepted by the proof, refused by the test"
        tally.disagreements.append(f"{kind} ({family}): {why}: {dna_to_json(smallest)}")
    return proof if proof == test else "disagree"


def judge_models(accepted: dict[str, list[DNA]], count: int, seed: int, tally: Tally) -> None:
    """Probe `count` accepted programs in the language model before and after training, from all families in turn."""
    rng, tried = np.random.default_rng((seed, 1)), 0
    queues = {family: [dnas[i] for i in rng.permutation(len(dnas))] for family, dnas in accepted.items()}
    while tried < count and any(queues.values()):
        for queue in queues.values():
            if tried == count or not queue:
                continue
            outcome = judge_model(queue.pop(), tried, tally)
            tally.models[outcome] += 1
            tried += outcome != "too wide or large"
            if tried % 25 == 0:
                log(f"{tried} models: {dict(tally.models)}, largest change of a logit {tally.largest_change:.2g}")


def judge_model(dna: DNA, seed: int, tally: Tally) -> str:
    """Judge one program in the language model; return the outcome."""
    rng = np.random.default_rng((seed, 2))
    try:
        graph = build_graph(dna)
        if len(graph.nodes) > LARGEST_GRAPH:
            return "too wide or large"
        model = language_model(graph, MODEL)
    except InvalidProgramError:  # a width is not a whole number of channels at this unit
        return "too wide or large"
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=1))
    functions = StepFunctions(model, optimizer, BATCH, compiler_options=COMPILER_OPTIONS)
    tokens = rng.integers(MODEL.vocabulary, size=(STEPS + 1, BATCH, MODEL.length + 1)).astype(np.int32)
    stage = "compile"
    try:
        state = functions.initial_state(model.init(rng))
        functions.compile_step(state)
        stage = "probe"
        probe_finite(functions, jax.tree.map(np.array, state), tokens[0])
        probe_causality(functions, model, state.optimizer, tokens[0], rng)
        stage = "train"
        for batch in tokens[:-1]:
            state, _ = functions.step(jax.tree.map(np.array, state), batch)
        stage = "recheck"
        change = probe_trained_model(functions, MODEL, state, tokens[-1], rng)
        tally.largest_change = max(tally.largest_change, change)
    except ProbeFault as fault:
        if fault.reason != "finiteness":
            tally.disagreements.append(f"proved and tested, but refused by the {stage} ({fault}): {dna_to_json(dna)}")
        return f"{fault.reason}, {'once trained' if stage == 'recheck' else 'before training'}"
    except Exception:  # noqa: BLE001 - crashes are what is counted
        tally.crashes.append(f"crash at {stage}: {dna_to_json(dna)}\n{traceback.format_exc()}")
        return "crash"
    return "accepted"


# --- programs ---------------------------------------------------------------------------------------------------


def built_programs(count: int, seed: int, tally: Tally) -> Iterator[tuple[str, DNA, Graph]]:
    """Yield different valid programs of all families in turn. About half of them may depend on the length."""
    rng = np.random.default_rng(seed)
    descendants = [library.LIBRARY[name].dna for name in library.names()]
    border = [leaky.dna for leaky in LEAKY_PROGRAMS.values()] + descendants
    made = 0
    while made < count:
        family = FAMILIES[made % len(FAMILIES)]
        if family in ("random", "mixing"):
            dna = random_program(rng, tuple(OPS) if family == "random" else MIXING)
        elif family == "library":
            dna = mutate(descendants[int(rng.integers(len(descendants)))], rng)[0]
            descendants.append(dna)
        else:
            dna = border[int(rng.integers(len(border)))]
            for _ in range(int(rng.integers(1, 5))):
                dna = mutate(dna, rng)[0]
        dna = replace(dna, length_dependent=bool(rng.integers(2)))
        try:
            graph = build_graph(dna)
            if parameter_count(graph, smallest_unit(graph), LENGTH) > LARGEST_SIZE:
                raise InvalidProgramError("size", "too large to compare")
            if graph.structure_hash in tally.structures:
                raise InvalidProgramError("known", "judged before")
            if family == "mixing" and not any(node.value.kind is Kind.SCORES for node in graph.nodes):
                raise InvalidProgramError("no scores", "information moves between positions only through scores")
        except InvalidProgramError as error:
            tally.invalid[error.reason] += 1
            continue
        except Exception:  # noqa: BLE001 - crashes are what is counted
            tally.crashes.append(f"crash in build_graph: {dna_to_json(dna)}\n{traceback.format_exc()}")
            continue
        made += 1
        tally.structures.add(graph.structure_hash)
        yield family, dna, graph


def random_program(rng: np.random.Generator, ops: Sequence[str], largest: int = 10) -> DNA:
    """Return a random program of up to three subprograms. Instructions read recent values more often than old ones."""
    subprograms = int(rng.integers(1, 4))
    constants = tuple(float(constant) for constant in rng.normal(size=3))
    dimensions = tuple(int(dimension) for dimension in rng.choice(RELATIVE_DIMENSIONS[:7], size=3))

    def operand(position: int) -> int:
        return int(position + 1 - min(rng.geometric(0.4) - 1, position + 1))

    def instruction(index: int, position: int) -> Instruction:
        choices = [*ops, *(f"call:{callee}" for callee in range(index + 1, subprograms) for _ in range(3))]
        return Instruction(
            op=choices[int(rng.integers(len(choices)))],
            in1=operand(position),
            in2=operand(position),
            constant=int(rng.integers(3)),
            dimension=int(rng.integers(3)),
            branches=int(rng.choice(BRANCHES)) if rng.random() < 0.2 else 1,
        )

    bodies = (
        tuple(instruction(index, position) for position in range(int(rng.integers(1, largest + 1))))
        for index in range(subprograms)
    )
    return DNA(constants, dimensions, tuple(Subprogram(f"s{index}", body) for index, body in enumerate(bodies)))


def disagrees(dna: DNA) -> bool:
    """Return whether the proof accepts a program that the test refuses."""
    try:
        graph = build_graph(dna)
    except InvalidProgramError:
        return False
    return judged(lambda: prove_causal(graph))[0] == "accept" and judged(lambda: probe_block(graph))[0] == "causality"


def is_rounding(graph: Graph) -> bool:
    """Return whether the outputs are only rounding errors, so that a change of the inputs' last digit changes them."""
    rng = np.random.default_rng(0)
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((2, LENGTH, MODEL_WIDTH * unit))
    outputs = evaluate_reference(graph, parameters, x)
    changed = evaluate_reference(graph, parameters, x * (1 + 1e-15 * rng.choice((-1, 1), x.shape)))
    return bool(np.abs(outputs - changed).max() > 1e-3 * np.abs(outputs).max())


def minimized(dna: DNA, holds: Callable[[DNA], bool], tries: int = 500) -> DNA:
    """Return a smaller program with the same property, by random deletions."""
    rng = np.random.default_rng(0)
    delete = MUTATIONS["Delete"]
    for _ in range(tries):
        smaller = delete(dna, rng)
        if smaller is not None and holds(smaller[0]):
            dna = smaller[0]
    return dna


def judged(check: Callable[[], None]) -> tuple[str, str]:
    """Return the verdict of a check (`accept` or the reason of the refusal) and its message."""
    try:
        check()
    except InvalidProgramError as error:
        return error.reason, str(error)
    return "accept", ""


# --- report ---------------------------------------------------------------------------------------------------


def print_blocks(tally: Tally, seconds: float) -> None:
    """Print the results of the first part."""
    total = sum(tally.verdicts.values())
    print(f"\nblocks in NumPy: {total} different programs in {seconds:.0f} s, {len(tally.crashes)} crashes")
    print(f"{1000 * tally.probe_seconds / max(total, 1):.1f} ms a test; other programs drawn, but not judged:")
    print("  " + ", ".join(f"{reason} {number}" for reason, number in tally.invalid.most_common()))
    columns = {
        "both accept": ("accept", "accept"),
        "both refuse": ("causality", "causality"),
        "proof alone": ("causality", "accept"),
        "on a retry": ("causality", "found later"),
        "not finite": None,
        "test alone": ("accept", "causality"),
    }
    print(f"\n{'family':10}" + "".join(f"{name:>13}" for name in ("programs", *columns)))
    for family in (*FAMILIES, "all"):
        counts = Counter[tuple[str, str]]()
        for (name, proof, test), number in tally.verdicts.items():
            counts[proof, test] += number * (family in (name, "all"))
        cells = [
            sum(number for verdict, number in counts.items() if "finiteness" in verdict)
            if pair is None
            else counts[pair]
            for pair in columns.values()
        ]
        print(f"{family:10}" + "".join(f"{number:13d}" for number in (sum(counts.values()), *cells)))
    alone = sum(tally.refused_by_proof.values())
    print(
        f"\nrefused by the proof alone, with {RETRIES} seeds of the test: {alone} of {total} ({alone / total:.2%}), at"
    )
    by_op = Counter[str]()
    for (op, _), number in tally.refused_by_proof.items():
        by_op[op] += number
    print("  " + ", ".join(f"{op} {number}" for op, number in by_op.most_common()))
    print(f"accepted by the proof, refused by the test: {len(tally.disagreements)},")
    print(f"  of which {tally.rounded} have outputs that are only rounding errors")


def print_models(tally: Tally, seconds: float) -> None:
    """Print the results of the second part."""
    tried = sum(number for outcome, number in tally.models.items() if outcome != "too wide or large")
    print(f"\nlanguage models: {tried} in {seconds:.0f} s, {STEPS} steps of training each")
    print("\n".join(f"  {number:5d} {outcome}" for outcome, number in tally.models.most_common()))
    print(f"  largest change of a logit of a causal model, once trained: {tally.largest_change:.2g}")


def hardware() -> str:
    """Return the processor, system and versions in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    python = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor_name()}, {os.cpu_count()} cores, {python}, {packages}"


if __name__ == "__main__":
    main()
