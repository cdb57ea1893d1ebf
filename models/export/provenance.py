"""Where an exported block came from, and how its file says so."""

from __future__ import annotations

from dataclasses import dataclass

from .formatting import docstring_text, paragraph

__all__ = ["Provenance", "docstring_lines"]

LARGEST_ANCESTRY = 40
"""Mutations told one by one; of longer ancestries, the last so many."""


FLAX = {"nnx": "Flax NNX", "linen": "Flax Linen"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a block.

    Attributes:
        run: what the run is called, or `the library` for a program with a name.
        candidate: its id in the run, or the name.
        ancestry: one sentence for each mutation that led to it, oldest first.
        loss_nats: its validation loss, nats per token.
        seed_loss_nats: the seed's mean loss in the same run.
        seed_spread_nats: the spread of the seed's trainings.
        trainings: how many trainings the loss stands on.
        confirmation: what fresh trainings said on the test text, one sentence; empty where there were none.
        setting: data, budget and hardware, in words.
        beginning: where the ancestry begins: at the seed, or at what a founder was imported from.
    """

    run: str
    candidate: str
    ancestry: tuple[str, ...] = ()
    loss_nats: float | None = None
    seed_loss_nats: float | None = None
    seed_spread_nats: float | None = None
    trainings: int = 1
    confirmation: str = ""
    setting: str = ""
    beginning: str = "the seed"


def docstring_lines(
    name: str, provenance: Provenance | None, sizes: str, structure_hash: str, api: str, checked: bool
) -> list[str]:
    """The exported file's docstring, quotes included."""
    lines = [f'"""{name}: a decoder block for {FLAX[api]}, written by primer-search.', ""]
    lines += paragraph(
        "The block is a program of primitive operations, a point of the search space of Primer (So et al. 2021, arXiv "
        "2109.08668). This file is that program in canonical form, dead code removed; its structure "
        f"hash is {structure_hash}."
    )
    if provenance is not None:
        lines += ["", *_origin(provenance)]
    lines += ["", *paragraph(f"Size: {sizes}")]
    lines += ["", *paragraph(f"Checked: {_CHECKED if checked else 'nothing yet.'}")]
    return [*lines, '"""']


_CHECKED = (
    "before this file was written its code was run beside the searched program, with the same random parameters: "
    "outputs and all gradients agree to 1e-5 in float32 (where a program amplifies rounding, to 1e-9 in float64), "
    "inputs at later positions, drawn anew, leave earlier outputs as they were, and decoding in pieces gives the same "
    "outputs as the whole sequence."
)


def _origin(provenance: Provenance) -> list[str]:
    origin = f"Origin: {docstring_text(provenance.candidate)} of {docstring_text(provenance.run)}."
    if provenance.setting:
        origin += f" {docstring_text(provenance.setting)}."
    lines = paragraph(origin)
    if provenance.loss_nats is not None:
        lines += paragraph(_result(provenance))
    if provenance.ancestry:
        told = provenance.ancestry[-LARGEST_ANCESTRY:]
        which = f"the last {len(told)} of {len(provenance.ancestry)} steps, "
        which = "" if len(told) == len(provenance.ancestry) else which
        lines += ["", *paragraph(f"Ancestry, {which}from {docstring_text(provenance.beginning)}:")]
        for sentence in told:
            lines += paragraph(f"- {docstring_text(sentence)}", hanging=2)
    return lines


def _result(provenance: Provenance) -> str:
    result = f"Result: validation loss {provenance.loss_nats:.4f} nats per token"
    if provenance.seed_loss_nats is not None:
        result += f", against {provenance.seed_loss_nats:.4f} of the seed"
        if provenance.seed_spread_nats is not None:
            result += f" (spread {provenance.seed_spread_nats:.4f})"
    many = "one training" if provenance.trainings == 1 else f"the mean of {provenance.trainings} trainings"
    if provenance.confirmation:
        return f"{result}; {many}. {docstring_text(provenance.confirmation)}"
    return f"{result}; {many}, unconfirmed: the search selected by this very text."
