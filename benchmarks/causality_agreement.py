"""Does whatever the proof of causality accepts pass the tests of it, in NumPy and in the language model?

    python benchmarks/causality_agreement.py [--programs 10000] [--models 300] [--seed 0]

Programs are drawn in four families of equal size: random ones over all ops; random ones that make scores, over the ops
that move information between positions and what surrounds them; descendants of library programs; and mutants of
leaky programs and of library programs, which stand closest to the line. Each that the language builds is judged twice,
independently: by the proof (`prove_causal`) and by the test in float64 (`probe_block`). No program may be accepted by
the proof and refused by the test. The reverse, the proof's over-caution, is counted by the op at which it refused.

Of the programs that both accept, some are then stacked into the language model (one layer, unit 2, length 16): probed
before training, trained for a few steps by AdamW, and rechecked. None may be refused for causality. The largest
change of a loss that should not have moved is what rounding makes of an honest program.
"""

from __future__ import annotations

import argparse
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

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import DNA, OPS, Graph, InvalidProgramError, build_graph, library
from primer_search.primitives.causality_proof import prove_causal
from primer_search.primitives.causality_test import LENGTH, probe_block
from primer_search.primitives.graph import smallest_unit
from primer_search.primitives.interpreter import evaluate_reference
from primer_search.primitives.parameters import draw_parameters, parameter_count
from primer_search.primitives.program import BRANCHES, RELATIVE_DIMENSIONS, Instruction, Subprogram
from primer_search.primitives.program_json import dna_to_json
from primer_search.primitives.value_types import MODEL_WIDTH, Kind
from primer_search.search.doctor.leaky_programs import LEAKY_PROGRAMS
from primer_search.search.evolution.paper_mutations import MUTATIONS, mutate
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.leak_probes import ProbeFault, probe_causality, probe_finite, probe_trained_model
from primer_search.workers.training.optimizer import initial_state, make_optimizer
from primer_search.workers.training.train_step import StepFunctions, TrainState

MIXING = (
    "T_MAT_MUL", "T_MAT_MUL", "MAT_MUL", "MAT_MUL", *["MASK"] * 8, "EXP", "RED_SUM", "RED_MEAN", "RED_MAX", "RED_MIN",
    "RED_PROD", "CUM_SUM", "CUM_PROD", "DIVIDE", "MULTIPLY", "ADD", "DIFFERENCE", "ABS", "RECIP", "SIGN", "TANH", "COS",
    "LOG", "SHIFT", "SCALE", "CONV_1X1", "DCONV_3X1", "MAX", "C_MUL",
)  # fmt: skip
FAMILIES = ("random", "mixing", "library", "border")
SMALL = 300_000
"""Parameters at the size blocks are tested at: wider programs cost seconds each and decide nothing new."""

RETRIES = 5
"""Further seeds of the test where the proof refuses alone."""

MODEL = ModelConfig(layers=1, unit=2, length=16, vocabulary=300, length_dependent=True)
BATCH, STEPS = 4, 5
COMPILER_OPTIONS = {"xla_backend_optimization_level": 0}
"""Compiles in half the time; XLA's own passes stay, LLVM's go."""

LARGEST_GRAPH = 60
"""Nodes of a program that is compiled; most are far below."""


@dataclass
class Tally:
    """What was counted."""

    invalid: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    cautious: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    rounded: int = 0
    structures: set[str] = field(default_factory=set)
    disagreements: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    largest_move: float = 0.0
    probe_seconds: float = 0.0


def main() -> None:
    """Run both parts and print the tables; exits 1 on a crash or a disagreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
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
    """Judge `count` programs in NumPy; those that both accept, by family, each structure once."""
    accepted: dict[str, list[DNA]] = {family: [] for family in FAMILIES}
    for number, (family, dna, graph) in enumerate(built_programs(count, seed, tally), 1):
        if judge(family, dna, graph, tally) == "accept":
            accepted[family].append(dna)
        if number % 1000 == 0:
            say(f"{number} programs, {len(tally.disagreements)} disagreements, {len(tally.crashes)} crashes")
    return accepted


def judge(family: str, dna: DNA, graph: Graph, tally: Tally) -> str:
    """Both verdicts on one program, filed; what both say if they agree."""
    try:
        proof, culprit = said(lambda: prove_causal(graph))
        start = time.perf_counter()
        test, _ = said(lambda: probe_block(graph))
        tally.probe_seconds += time.perf_counter() - start
        if proof == "causality" and test == "accept":
            found = any(said(lambda seed=seed: probe_block(graph, seed))[0] != "accept" for seed in range(1, RETRIES))
            test = "found later" if found else "accept"
            if not found:
                op = re.search(r"future: (\w+) at", culprit)
                tally.cautious[op.group(1) if op else "?", family] += 1
    except Exception:  # noqa: BLE001 - crashes are what is counted
        tally.crashes.append(f"crash: {dna_to_json(dna)}\n{traceback.format_exc()}")
        return "crash"
    tally.verdicts[family, proof, test] += 1
    if proof == "accept" and test == "causality":
        smallest = minimised(dna, disagrees)
        why = said(lambda: probe_block(build_graph(smallest)))[1]
        noise = is_rounding(build_graph(smallest))
        tally.rounded += noise
        kind = "rounding alone" if noise else "accepted by the proof, refused by the test"
        tally.disagreements.append(f"{kind} ({family}): {why}: {dna_to_json(smallest)}")
    return proof if proof == test else "disagree"


def judge_models(accepted: dict[str, list[DNA]], count: int, seed: int, tally: Tally) -> None:
    """Stack `count` accepted programs into the language model, families in turn, and probe, train, recheck."""
    rng, tried = np.random.default_rng((seed, 1)), 0
    queues = {family: [dnas[i] for i in rng.permutation(len(dnas))] for family, dnas in accepted.items()}
    while tried < count and any(queues.values()):
        for queue in queues.values():
            if tried == count or not queue:
                continue
            verdict = judge_model(queue.pop(), tried, tally)
            tally.models[verdict] += 1
            tried += verdict != "too wide or large"
            if tried % 25 == 0:
                say(f"{tried} models: {dict(tally.models)}, largest move {tally.largest_move:.2g} nats")


def judge_model(dna: DNA, seed: int, tally: Tally) -> str:
    """One program in the language model: what became of it."""
    rng = np.random.default_rng((seed, 2))
    try:
        graph = build_graph(dna)
        if len(graph.nodes) > LARGEST_GRAPH:
            return "too wide or large"
        model = language_model(graph, MODEL)
    except InvalidProgramError:  # a width is no whole number of channels at this unit
        return "too wide or large"
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=1))
    functions = StepFunctions(model, optimizer, BATCH, compiler_options=COMPILER_OPTIONS)
    tokens = rng.integers(MODEL.vocabulary, size=(STEPS + 1, BATCH, MODEL.length + 1)).astype(np.int32)
    stage = "compile"
    try:
        parameters = model.init(rng)
        state = TrainState(parameters, initial_state(optimizer, parameters))
        functions.compile_step(state)
        stage = "probe"
        probe_finite(functions, jax.tree.map(np.array, state), tokens[0])
        probe_causality(functions, model, state.optimizer, tokens[0], rng)
        stage = "train"
        for batch in tokens[:-1]:
            state, _ = functions.step(jax.tree.map(np.array, state), batch)
        stage = "recheck"
        tally.largest_move = max(tally.largest_move, probe_trained_model(functions, MODEL, state, tokens[-1], rng))
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
    """Different programs that the language builds, families in turn; about half may be tied to one length."""
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
            if parameter_count(graph, smallest_unit(graph), LENGTH) > SMALL:
                raise InvalidProgramError("size", "too large to compare")
            if graph.structure_hash in tally.structures:
                raise InvalidProgramError("known", "judged before")
            if family == "mixing" and not any(node.value.kind is Kind.SCORES for node in graph.nodes):
                raise InvalidProgramError("no scores", "positions meet only where there are scores")
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
    """A random program of up to three subprograms; later instructions read later values more often than earlier."""
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
    """Whether the proof accepts what the test refuses."""
    try:
        graph = build_graph(dna)
    except InvalidProgramError:
        return False
    return said(lambda: prove_causal(graph))[0] == "accept" and said(lambda: probe_block(graph))[0] == "causality"


def is_rounding(graph: Graph) -> bool:
    """Whether the block's output is nothing but rounding: inputs changed in their last digits change all of it."""
    rng = np.random.default_rng(0)
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((2, LENGTH, MODEL_WIDTH * unit))
    there, here = (
        evaluate_reference(graph, parameters, each) for each in (x, x * (1 + 1e-15 * rng.choice((-1, 1), x.shape)))
    )
    return bool(np.abs(there - here).max() > 1e-3 * np.abs(there).max())


def minimised(dna: DNA, holds: Callable[[DNA], bool], tries: int = 500) -> DNA:
    """A smaller program of which the same holds, by deletions drawn at random."""
    rng = np.random.default_rng(0)
    delete = MUTATIONS["Delete"]
    for _ in range(tries):
        smaller = delete(dna, rng)
        if smaller is not None and holds(smaller[0]):
            dna = smaller[0]
    return dna


def said(check: Callable[[], None]) -> tuple[str, str]:
    """A check's verdict, `accept` or the reason of its refusal, and its sentence."""
    try:
        check()
    except InvalidProgramError as error:
        return error.reason, str(error)
    return "accept", ""


# --- what is printed --------------------------------------------------------------------------------------------


def print_blocks(tally: Tally, seconds: float) -> None:
    total = sum(tally.verdicts.values())
    print(f"\nblocks in NumPy: {total} different programs in {seconds:.0f} s, {len(tally.crashes)} crashes")
    print(f"{1000 * tally.probe_seconds / max(total, 1):.1f} ms a test; drawn beside them, and not counted:")
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
        mine = Counter[tuple[str, str]]()
        for (name, proof, test), number in tally.verdicts.items():
            mine[proof, test] += number * (family in (name, "all"))
        cells = [
            sum(number for verdict, number in mine.items() if "finiteness" in verdict) if pair is None else mine[pair]
            for pair in columns.values()
        ]
        print(f"{family:10}" + "".join(f"{number:13d}" for number in (sum(mine.values()), *cells)))
    alone = sum(tally.cautious.values())
    print(
        f"\nrefused by the proof alone, with {RETRIES} seeds of the test: {alone} of {total} ({alone / total:.2%}), at"
    )
    by_op = Counter[str]()
    for (op, _), number in tally.cautious.items():
        by_op[op] += number
    print("  " + ", ".join(f"{op} {number}" for op, number in by_op.most_common()))
    print(f"accepted by the proof, refused by the test: {len(tally.disagreements)},")
    print(f"  of which {tally.rounded} have outputs that are nothing but rounding")


def print_models(tally: Tally, seconds: float) -> None:
    tried = sum(number for verdict, number in tally.models.items() if verdict != "too wide or large")
    print(f"\nlanguage models: {tried} in {seconds:.0f} s, {STEPS} steps of training each")
    print("\n".join(f"  {number:5d} {verdict}" for verdict, number in tally.models.most_common()))
    print(f"  largest change of a loss of an honest model, once trained: {tally.largest_move:.2g} nats")


def hardware() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy"))
    python = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor_name()}, {os.cpu_count()} cores, {python}, {packages}"


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
