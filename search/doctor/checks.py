"""Self-test of this installation: every leaky program must be refused, and every library program accepted.

The checks run the installed code on the device that JAX uses. Rounding, compilers and libraries differ between
machines, and a probe that does not work on one of them would fail silently. The module `environment` checks Python,
the libraries and the hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...models.language_model import language_model
from ...primitives import DNA, InvalidProgramError, build_graph
from ...primitives.causality.causality_test import check_causality
from ...primitives.programs import library
from .environment import Finding, environment_findings
from .leaky_blocks import LEAKY_BLOCKS, LeakyBlock
from .leaky_programs import LEAKY_PROGRAMS, LeakyProgram
from .probe_harness import SMALL, BlockProber, compiled_step, run_probes
from .refusals import refusals

__all__ = ["examine", "leaky_block_findings", "leaky_program_findings", "library_findings", "report"]


_PREFIX = "it sees the future: "


def examine(quick: bool = False, progress: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Run all checks and yield one finding at a time.

    Args:
        quick: whether to skip the checks that compile: blocks and library programs in the language model.
        progress: function called with the name of the next check.
    """
    tell = progress or (lambda line: None)
    tell("the environment")
    yield from environment_findings()
    tell(f"{len(LEAKY_PROGRAMS)} leaky programs")
    yield from leaky_program_findings(tuple(LEAKY_PROGRAMS.values()))
    if not quick:
        tell(f"{len(LEAKY_BLOCKS)} leaky blocks in the language model")
        yield from leaky_block_findings(tuple(LEAKY_BLOCKS.values()))
    tell(f"{len(library.names())} library programs" + ("" if quick else ", in the language model too"))
    yield from library_findings(library.names(), in_model=not quick)


def leaky_program_findings(programs: Sequence[LeakyProgram]) -> Iterator[Finding]:
    """Check that each program is refused by all its `refused_by` stages, for the expected reason."""
    for program in programs:
        found = refusals(program.dna)
        missing = [stage for stage in program.refused_by if stage not in [refusal.stage for refusal in found]]
        stages = " and ".join(refusal.stage for refusal in found)
        if not found:
            yield Finding("leaky programs", program.name, "failed", f"it got through: {program.how}")
        elif missing:
            reason = f"it got through the {' and the '.join(missing)}, though not the {stages}: {program.how}"
            yield Finding("leaky programs", program.name, "failed", reason)
        elif found[0].reason != program.reason:
            reason = f"refused for {found[0].reason}, but its fault is {program.reason}: {program.how}"
            yield Finding("leaky programs", program.name, "failed", reason)
        else:
            reason = f"{found[0].reason}, by the {stages}: {found[0].message.removeprefix(_PREFIX)}"
            yield Finding("leaky programs", program.name, "refused", reason)


def leaky_block_findings(blocks: Sequence[LeakyBlock]) -> Iterator[Finding]:
    """Check that each block is refused in the language model, at the expected stage and for the expected reason."""
    prober = BlockProber(blocks)
    for block in blocks:
        result = prober.probe(block)
        if not result.refused_by:
            yield Finding("leaky blocks", block.name, "failed", f"it got through: {block.how}")
        elif (result.refused_by, result.reason) != (block.refused_by, block.reason):
            reason = f"refused for {result.reason} by the {result.refused_by}, but should be for {block.reason} by the "
            yield Finding("leaky blocks", block.name, "failed", f"{reason}{block.refused_by}: {block.how}")
        else:
            reason = f"{result.reason}, by the {result.refused_by}: {result.message.removeprefix(_PREFIX)}"
            yield Finding("leaky blocks", block.name, "refused", reason)


def library_findings(names: Sequence[str], in_model: bool = True) -> Iterator[Finding]:
    """Check that each library program is accepted by the language and by the probes of the language model."""
    for name in names:
        why = library_refusal(library.get(name, SMALL.unit), in_model)
        where = "proof, test" + (", probe and recheck" if in_model else "")
        yield Finding("library", name, "failed" if why else "accepted", why or f"by {where}")


def library_refusal(dna: DNA, in_model: bool) -> str:
    """Return why a program is refused; empty if it is accepted."""
    try:
        graph = build_graph(dna)
        check_causality(graph)
    except InvalidProgramError as error:
        return f"refused for {error.reason}: {error}"
    if not in_model:
        return ""
    model = language_model(graph, SMALL)
    result = run_probes(compiled_step(model), model, model.draw(np.random.default_rng(1)))
    return f"refused for {result.reason} by the {result.refused_by}: {result.message}" if result.reason else ""


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the JSON values that `doctor --json` prints."""
    failed = [finding.check for finding in findings if finding.failed]
    return {"healthy": not failed, "failed": failed, "findings": [asdict(finding) for finding in findings]}
