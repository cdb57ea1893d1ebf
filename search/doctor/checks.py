"""Can results on this machine be believed? Every canary must be refused, no library program may be.

Asked of the code as it is installed and of the device as JAX sees it: rounding, compilers and libraries differ, and a
probe that fails there would fail silently. Then what else a search stands on (see `environment`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...models.language_model import language_model
from ...primitives import DNA, InvalidProgramError, build_graph, library
from ...primitives.causality_test import check_causality
from .environment import Finding, environment_findings
from .leaky_blocks import CANARY_BLOCKS, CanaryBlock
from .leaky_programs import CANARY_PROGRAMS, CanaryProgram, refusals
from .probe_harness import SMALL, CanaryOrdeal, compiled_step, undergo

__all__ = ["canary_block_findings", "canary_program_findings", "examine", "library_findings", "report"]


_PREFIX = "it sees the future: "


def examine(quick: bool = False, progress: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Look at everything, one finding at a time.

    Args:
        quick: leave out what compiles: canaries in the language model, and library programs there.
        progress: told what comes next.
    """
    tell = progress or (lambda line: None)
    tell("the environment")
    yield from environment_findings()
    tell(f"{len(CANARY_PROGRAMS)} programs that cheat")
    yield from canary_program_findings(tuple(CANARY_PROGRAMS.values()))
    if not quick:
        tell(f"{len(CANARY_BLOCKS)} blocks that cheat, in the language model")
        yield from canary_block_findings(tuple(CANARY_BLOCKS.values()))
    tell(f"{len(library.names())} library programs" + ("" if quick else ", in the language model too"))
    yield from library_findings(library.names(), in_model=not quick)


def canary_program_findings(canaries: Sequence[CanaryProgram]) -> Iterator[Finding]:
    """Whether each program is refused by every stage that must, for the reason expected."""
    for canary in canaries:
        found = refusals(canary.dna)
        missing = [stage for stage in canary.refused_by if stage not in [refusal.stage for refusal in found]]
        stages = " and ".join(refusal.stage for refusal in found)
        if not found:
            yield Finding("canary programs", canary.name, "failed", f"it got through: {canary.how}")
        elif missing:
            words = f"it got through the {' and the '.join(missing)}, though not the {stages}: {canary.how}"
            yield Finding("canary programs", canary.name, "failed", words)
        elif found[0].reason != canary.reason:
            words = f"refused for {found[0].reason}, but its fault is {canary.reason}: {canary.how}"
            yield Finding("canary programs", canary.name, "failed", words)
        else:
            words = f"{found[0].reason}, by the {stages}: {found[0].message.removeprefix(_PREFIX)}"
            yield Finding("canary programs", canary.name, "refused", words)


def canary_block_findings(canaries: Sequence[CanaryBlock]) -> Iterator[Finding]:
    """Whether each block is refused in the language model, before training or once trained, for the reason expected."""
    ordeal = CanaryOrdeal(canaries)
    for canary in canaries:
        verdict = ordeal.verdict(canary)
        if not verdict.refused_by:
            yield Finding("canary blocks", canary.name, "failed", f"it got through: {canary.how}")
        elif (verdict.refused_by, verdict.reason) != (canary.refused_by, canary.reason):
            words = (
                f"refused for {verdict.reason} by the {verdict.refused_by}, but should be for {canary.reason} by the "
            )
            yield Finding("canary blocks", canary.name, "failed", f"{words}{canary.refused_by}: {canary.how}")
        else:
            words = f"{verdict.reason}, by the {verdict.refused_by}: {verdict.message.removeprefix(_PREFIX)}"
            yield Finding("canary blocks", canary.name, "refused", words)


def library_findings(names: Sequence[str], in_model: bool = True) -> Iterator[Finding]:
    """Whether each library program is accepted, by the language and by the probes of the language model."""
    for name in names:
        why = library_refusal(library.get(name, SMALL.unit), in_model)
        where = "proof, test" + (", probe and recheck" if in_model else "")
        yield Finding("library", name, "failed" if why else "accepted", why or f"by {where}")


def library_refusal(dna: DNA, in_model: bool) -> str:
    """Why a program is refused; empty if it is not."""
    try:
        graph = build_graph(dna)
        check_causality(graph)
    except InvalidProgramError as error:
        return f"refused for {error.reason}: {error}"
    if not in_model:
        return ""
    model = language_model(graph, SMALL)
    verdict = undergo(compiled_step(model), model, model.draw(np.random.default_rng(1)))
    return f"refused for {verdict.reason} by the {verdict.refused_by}: {verdict.message}" if verdict.reason else ""


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain JSON values: what `doctor --json` prints."""
    failed = [finding.check for finding in findings if finding.failed]
    return {"healthy": not failed, "failed": failed, "findings": [asdict(finding) for finding in findings]}
