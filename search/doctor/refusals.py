"""Refusals of a program: the stages of the leak checks that refuse it, and their reasons."""

from __future__ import annotations

from dataclasses import dataclass

from ...primitives import DNA, InvalidProgramError, build_graph
from ...primitives.causality.causality_proof import prove_causal
from ...primitives.causality.causality_test import probe_block

__all__ = ["STAGES", "Refusal", "refusals"]

STAGES = ("language", "proof", "test")
"""Stages that can refuse a program: kinds and length (`build_graph`), the proof, and the test of a block in float64."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refusal of a program by a stage: the stage, the reason in one word, and the message."""

    stage: str
    reason: str
    message: str


def refusals(dna: DNA, seed: int = 0) -> list[Refusal]:
    """Return the refusals of a program; the test runs even if the proof refuses.

    Args:
        dna: well-formed program.
        seed: random seed of the test's parameters and futures.
    """
    found: list[Refusal] = []
    try:
        graph = build_graph(dna)
    except InvalidProgramError as error:
        return [Refusal("language", error.reason, str(error))]
    for stage, check in (
        ("proof", lambda: prove_causal(graph)),
        ("test", lambda: probe_block(graph, seed)),
    ):
        try:
            check()
        except InvalidProgramError as error:
            found.append(Refusal(stage, error.reason, str(error)))
    return found
