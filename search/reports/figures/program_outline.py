"""Outline of a program for its drawing: live instructions, subprograms, and differences to another program.

An instruction is live if the output depends on it. The body of a subprogram is drawn once: at its first call in MAIN if
it has several live instructions, and at any first call if it differs. Every other call is a single node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ....primitives.differences.program_diff import ProgramDiff, Slot, diff_programs
from ....primitives.errors import UsageError
from ....primitives.ops.op_table import OPS
from ....primitives.programs.liveness import live_values, operand_slots
from ....primitives.programs.pretty_printer import format_instruction, subprogram_label
from ....primitives.programs.program import DNA, Instruction

__all__ = ["Mark", "Outline", "OutlineEdge", "OutlineNode", "program_outline"]

Mark = Literal["", "added", "changed", "removed"]
Side = Literal["baseline", "candidate"]

OUTPUT = "output"
"""Key of the node after the last instruction."""


@dataclass(frozen=True, slots=True)
class OutlineNode:
    """A node of the drawing.

    Attributes:
        key: name of the node in its outline.
        name: value that it computes, as in the listing; empty for inputs, outputs and removed instructions.
        label: op or subprogram.
        detail: settings of the op; empty if it has none.
        family: family of the op, `call`, `input` or `output`.
        mark: kind of difference to the other program.
        about: explanation, one sentence or more.
        inside: the called subprogram, if its body is drawn in place of the call.
        operands: number of operands that it reads.
    """

    key: str
    name: str
    label: str
    detail: str
    family: str
    mark: Mark
    about: str
    inside: Outline | None = None
    operands: int = 1


@dataclass(frozen=True, slots=True)
class OutlineEdge:
    """An operand of a node.

    Attributes:
        source, target: keys of the nodes.
        place: 0 for the first operand that the target reads, 1 for the second.
        port: 0 for `h0` and 1 for `h1`, if the target is a call.
        removed: whether only the other program has this operand.
    """

    source: str
    target: str
    place: int
    port: int
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """A subprogram as a graph; `output` is its last node."""

    nodes: tuple[OutlineNode, ...]
    edges: tuple[OutlineEdge, ...]
    output: str = OUTPUT


def program_outline(dna: DNA, against: DNA | None = None, everything: bool = False) -> Outline:
    """Return the outline of a program.

    Args:
        dna: well-formed program.
        against: program whose differences are marked; None, or a program that cannot be aligned, marks none.
        everything: whether to draw every subprogram in place at its first call.
    """
    try:
        diff = diff_programs(dna if against is None else against, dna)
    except UsageError:  # their banks cannot be aligned: the programs have too little in common
        diff = diff_programs(dna, dna)
    return _Outliner(diff, everything).outline(0, 0)


class _Outliner:
    """Builds the outlines of a program's subprograms. The body of each is drawn at most once."""

    def __init__(self, diff: ProgramDiff, everything: bool):
        self.diff = diff
        self.everything = everything
        self.programs: dict[Side, DNA] = {"baseline": diff.apply(()), "candidate": diff.apply(diff.numbers)}
        self.live = {side: live_values(program) for side, program in self.programs.items()}
        self.descriptions = {change.number: change.description for change in diff.changes}
        self.drawn: set[int] = set()
        self.positions = {side: [_positions(each.slots, side) for each in diff.subprograms] for side in self.programs}
        self.differs = self._differing()

    def outline(self, index: int, depth: int) -> Outline:
        """Return the outline of a subprogram."""
        slots, main = self.diff.subprograms[index].slots, index == 0
        inputs = {0} if main else {value for value in (0, 1) if value in self.live["candidate"][index]}
        nodes = [
            OutlineNode(f"v{value}", "", "input" if main else f"h{value}", "", "input", "", "input")
            for value in sorted(inputs)
        ]
        edges: list[OutlineEdge] = []
        for number, slot in enumerate(slots):
            side: Side = "candidate" if self._is_live(index, number, "candidate") else "baseline"
            if not self._is_live(index, number, side):
                continue
            nodes.append(self._node(index, number, slot, side, depth))
            edges += self._edges(index, number, "candidate")
        known = {node.key for node in nodes}
        removed = [edge for number in range(len(slots)) for edge in self._removed_edges(index, number)]
        edges += [edge for edge in removed if edge.source in known and edge.target in known]
        last = max(number for number, slot in enumerate(slots) if slot.candidate is not None)
        nodes.append(OutlineNode(OUTPUT, "", "output" if main else "", "", "output", "", "output"))
        edges.append(OutlineEdge(f"v{last + 2}", OUTPUT, 0, 0))
        return Outline(tuple(nodes), tuple(edges))

    def _node(self, index: int, number: int, slot: Slot, side: Side, depth: int) -> OutlineNode:
        instruction = self._instruction(index, number, side)
        position = self.positions[side][index][number]
        program, callee = self.programs[side], instruction.callee
        mark, why = self._mark(index, number, slot)
        line = format_instruction(program, index, position)
        op = OPS.get(instruction.op)
        inside = None
        if callee is not None and side == "candidate" and self._is_expanded(callee, depth):
            self.drawn.add(callee)
            inside = self.outline(callee, depth + 1)
        elif callee is not None and not mark and side == "candidate" and self.differs[callee]:
            mark, why = "changed", "its subprogram differs, as drawn at its first call"
        about = [line if op is None else f"{line}: {op.summary}", *([f"{mark}: {why}"] if mark else [])]
        return OutlineNode(
            key=f"v{number + 2}",
            name=f"x{position + 2}" if side == "candidate" else "",
            label=instruction.op if callee is None else subprogram_label(program, callee),
            detail=self._detail(program, instruction, inside is not None),
            family="call" if callee is not None else "other" if op is None else op.family,
            mark=mark,
            about=". ".join(about),
            inside=inside,
            operands=len(operand_slots(instruction, self.live[side])),
        )

    def _mark(self, index: int, number: int, slot: Slot) -> tuple[Mark, str]:
        """Return how an instruction differs, and why."""
        now, before = (self._is_live(index, number, side) for side in ("candidate", "baseline"))
        if not now:
            return "removed", "deleted" if slot.candidate is None else "its value is not used any more"
        if not before:
            return "added", "inserted" if slot.baseline is None else "its value was not used before"
        instruction = self._instruction(index, number, "candidate")
        hidden = {"in1", "in2"} - set(operand_slots(instruction, self.live["candidate"]))
        changes = [change for field, change in slot.fields.items() if field not in hidden]
        op = OPS.get(instruction.op)
        for bank, field, used in zip(
            self.diff.banks,
            ("constant", "dimension"),
            (op is not None and op.uses_constant, op is not None and op.uses_dimension),
            strict=True,
        ):
            entry = bank.entries.get(getattr(instruction, field)) if used else None
            changes += [] if entry is None else [entry]
        if not changes:
            return "", ""
        return "changed", "; ".join(self.descriptions[change] for change in changes)

    def _edges(self, index: int, number: int, side: Side) -> list[OutlineEdge]:
        """Return the operands that a live instruction reads in one of the programs."""
        if not self._is_live(index, number, side):
            return []
        instruction, subprogram = self._instruction(index, number, side), self.diff.subprograms[index]
        slot = subprogram.slots[number]
        version = slot.candidate if side == "candidate" else slot.baseline
        fields = operand_slots(instruction, self.live[side])
        edges = []
        for place, field in enumerate(fields):
            value = subprogram.resolved(getattr(version, field), side)
            source = 0 if index == 0 and value == 1 else value  # both inputs of MAIN are the input of the block
            edges.append(OutlineEdge(f"v{source}", f"v{number + 2}", place, int(field == "in2")))
        return edges

    def _removed_edges(self, index: int, number: int) -> list[OutlineEdge]:
        """Return the operands that an instruction reads in the baseline, from or to removed instructions."""
        edges = self._edges(index, number, "baseline")
        if self._is_live(index, number, "candidate"):
            edges = [e for e in edges if e.source not in ("v0", "v1")]
            edges = [e for e in edges if not self._is_live(index, int(e.source[1:]) - 2, "candidate")]
        return [OutlineEdge(each.source, each.target, each.place, each.port, removed=True) for each in edges]

    def _detail(self, program: DNA, instruction: Instruction, drawn: bool) -> str:
        words = []
        op, callee = OPS.get(instruction.op), instruction.callee
        if callee is not None and not drawn:
            body = [
                each
                for position, each in enumerate(program.subprograms[callee].instructions)
                if position + 2 in live_values(program)[callee]
            ]
            words += [body[0].op] if len(body) == 1 and body[0].callee is None else []
        if op is not None and op.uses_constant:
            words.append(f"{program.constants[instruction.constant]:.4g}")
        if op is not None and op.uses_dimension:
            words.append(f"{program.dimensions[instruction.dimension]}u")
        if instruction.branches > 1:
            words.append(f"× {instruction.branches} branches")
        return " ".join(words)

    def _is_expanded(self, callee: int, depth: int) -> bool:
        if callee in self.drawn:
            return False
        several = len(self.live["candidate"][callee] - {0, 1}) > 1
        return self.differs[callee] or (several and (depth == 0 or self.everything))

    def _differing(self) -> list[bool]:
        """Return whether each subprogram, or one that it calls, differs between the two programs."""
        differs = [False] * len(self.diff.subprograms)
        for index in range(len(differs) - 1, -1, -1):  # calls go to higher indices
            for number, slot in enumerate(self.diff.subprograms[index].slots):
                live = [self._is_live(index, number, side) for side in ("candidate", "baseline")]
                if not any(live):
                    continue
                callee = self._instruction(index, number, "candidate").callee if live[0] else None
                inner = callee is not None and differs[callee]
                differs[index] |= inner or bool(self._mark(index, number, slot)[0])
        return differs

    def _is_live(self, index: int, number: int, side: Side) -> bool:
        position = self.positions[side][index].get(number)
        return position is not None and position + 2 in self.live[side][index]

    def _instruction(self, index: int, number: int, side: Side) -> Instruction:
        return self.programs[side].subprograms[index].instructions[self.positions[side][index][number]]


def _positions(slots: Sequence[Slot], side: Side) -> dict[int, int]:
    """Return the position in its program of each slot that the program has."""
    present = [number for number, slot in enumerate(slots) if getattr(slot, side) is not None]
    return {number: position for position, number in enumerate(present)}
