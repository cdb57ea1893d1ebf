"""The origin of an exported block, and the docstring of its file."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...primitives.errors import WorkFailedError
from .formatting import docstring_text, paragraph

__all__ = ["Provenance", "docstring_lines", "lower_bound", "lowest_version"]

LONGEST_ANCESTRY = 40
"""Largest number of mutations that the docstring lists. If there are more, it lists the last ones."""

FLAX = {"nnx": "Flax NNX", "linen": "Flax Linen"}

VERIFIED = (
    "before this file was written, its code ran next to the program of the search with the same random parameters. "
    "Outputs, also of packed texts, and all gradients agree to 1e-5 in float32, or to 1e-9 in float64 if the program "
    "amplifies rounding. New random inputs at later positions leave earlier outputs unchanged, and decoding in pieces "
    "gives the outputs of the whole sequence."
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a block.

    Attributes:
        run: name of the run, or `the library` for a library program.
        candidate: id in the run, or name in the library.
        ancestry: one sentence for each mutation that led to the block, oldest first.
        loss_nats: validation loss, nats per token.
        baseline_loss_nats: mean loss of the baseline in the same run.
        baseline_spread_nats: spread of the baseline's trainings.
        trainings: number of trainings that the loss is the mean of.
        confirmation: one sentence with the result of fresh trainings on the test text; empty if there were none.
        setting: data, budget and hardware, in words.
        beginning: program that the ancestry begins with: the baseline, or another initial program.
    """

    run: str
    candidate: str
    ancestry: tuple[str, ...] = ()
    loss_nats: float | None = None
    baseline_loss_nats: float | None = None
    baseline_spread_nats: float | None = None
    trainings: int = 1
    confirmation: str = ""
    setting: str = ""
    beginning: str = "the baseline"


def lowest_version(package: str) -> str:
    """Return the lowest version of a dependency that this package and its exported files are tested with."""
    return lower_bound(package, importlib.metadata.requires("primer-search") or ())


def lower_bound(package: str, requirements: Sequence[str]) -> str:
    """Return the version after `>=` in the first requirement of a package.

    >>> lower_bound("jax", ["jaxtyping>=0.3", "jax[cuda]<0.12,>=0.10; python_version > '3.11'"])
    '0.10'

    Raises:
        WorkFailedError: no requirement of the package has one.
    """
    for requirement in requirements:
        bound = re.match(rf"{re.escape(package)}(?![\w.-])[^;]*?>=\s*(\d+(?:\.\d+)*)", requirement)
        if bound:
            return bound[1]
    raise WorkFailedError(f"the requirements of primer-search have no lowest version (>=) of {package}")


def docstring_lines(
    name: str, provenance: Provenance | None, sizes: str, structure_hash: str, api: str, verified: bool
) -> list[str]:
    """Return the lines of the exported file's docstring, with its quotes."""
    lines = [f'"""{name}: a decoder block for {FLAX[api]}, written by primer-search.', ""]
    lines += paragraph(
        "The block is a program of primitive operations from the search space of Primer (So et al. 2021, arXiv "
        "2109.08668). This file is that program in canonical form, without dead code. Structure hash: "
        f"{structure_hash}."
    )
    if provenance is not None:
        lines += ["", *_origin(provenance)]
    lines += ["", *paragraph(f"Size: {sizes}")]
    lines += ["", *paragraph(f"Verification: {VERIFIED if verified else 'none yet.'}")]
    lines += ["", *paragraph(_versions(verified))]
    return [*lines, '"""']


def _versions(verified: bool) -> str:
    jax, flax = (importlib.metadata.version(package) for package in ("jax", "flax"))
    return (
        f"Versions: tested from JAX {lowest_version('jax')} and Flax {lowest_version('flax')} on; "
        f"made{' and verified' * verified} with JAX {jax} and Flax {flax}."
    )


def _origin(provenance: Provenance) -> list[str]:
    origin = f"Origin: {docstring_text(provenance.candidate)} of {docstring_text(provenance.run)}."
    if provenance.setting:
        origin += f" {docstring_text(provenance.setting)}."
    lines = paragraph(origin)
    if provenance.loss_nats is not None:
        lines += paragraph(_result(provenance))
    if provenance.ancestry:
        listed = provenance.ancestry[-LONGEST_ANCESTRY:]
        omitted = len(provenance.ancestry) - len(listed)
        which = f"the last {len(listed)} of {len(provenance.ancestry)} mutations, " if omitted else ""
        lines += ["", *paragraph(f"Ancestry, {which}from {docstring_text(provenance.beginning)}:")]
        for mutation in listed:
            lines += paragraph(f"- {docstring_text(mutation)}", hanging=2)
    return lines


def _result(provenance: Provenance) -> str:
    result = f"Result: validation loss {provenance.loss_nats:.4f} nats per token"
    if provenance.baseline_loss_nats is not None:
        result += f"; the baseline has {provenance.baseline_loss_nats:.4f}"
        if provenance.baseline_spread_nats is not None:
            result += f" (spread {provenance.baseline_spread_nats:.4f})"
    trainings = "One training" if provenance.trainings == 1 else f"Mean of {provenance.trainings} trainings"
    if provenance.confirmation:
        return f"{result}. {trainings}. {docstring_text(provenance.confirmation)}"
    return f"{result}. {trainings}, unconfirmed: the search selected candidates by their loss on this text."
