"""One-line descriptions of the changes between two programs, in the notation of `format_program`."""

from __future__ import annotations

from dataclasses import dataclass

from ..programs.pretty_printer import format_instruction, subprogram_label
from ..programs.program import DNA
from .program_alignment import AlignedSubprogram

__all__ = ["ChangeDescriber"]

_BASELINE, _CANDIDATE = 0, 1


@dataclass(frozen=True, slots=True)
class ChangeDescriber:
    """Describes changes of one subprogram. An instruction is printed with the value numbers of its own program.

    Attributes:
        baseline, candidate: the two programs.
        subprogram: the alignment of the subprogram in both.
    """

    baseline: DNA
    candidate: DNA
    subprogram: AlignedSubprogram

    def deleted(self, position: int | None) -> str:
        """Describe the deletion of the baseline's instruction at `position`."""
        return f"Delete in {self._label(_BASELINE)}: {self._line(_BASELINE, position)}"

    def inserted(self, position: int | None) -> str:
        """Describe the insertion of the candidate's instruction at `position`."""
        return f"Insert in {self._label(_CANDIDATE)}: {self._line(_CANDIDATE, position)}"

    def changed(self, field: str, old: int | None, new: int | None) -> str:
        """Describe the change of a field between the baseline's instruction `old` and the candidate's `new`."""
        before, after = self._value(_BASELINE, field, old), self._value(_CANDIDATE, field, new)
        return f"Change {field} from {before} to {after} in {self._label(_CANDIDATE)}: {self._line(_CANDIDATE, new)}"

    def _program(self, side: int) -> tuple[DNA, int]:
        index = self.subprogram.indices[side]
        assert index is not None
        return (self.baseline, self.candidate)[side], index

    def _label(self, side: int) -> str:
        return subprogram_label(*self._program(side))

    def _line(self, side: int, position: int | None) -> str:
        return format_instruction(*self._program(side), position or 0)

    def _value(self, side: int, field: str, position: int | None) -> str:
        dna, index = self._program(side)
        instruction = dna.subprograms[index].instructions[position or 0]
        if field == "op":
            callee = instruction.callee
            return instruction.op if callee is None else subprogram_label(dna, callee)
        if field in ("in1", "in2"):
            return self._operand(side, getattr(instruction, field))
        if field == "constant":
            return f"{dna.constants[instruction.constant]:.6g}"
        if field == "dimension":
            return f"{dna.dimensions[instruction.dimension]}u"
        return str(instruction.branches)

    def _operand(self, side: int, value: int) -> str:
        """Return the name of an operand in the candidate; if the candidate lacks it, its name in the baseline."""
        if value < 2:
            return f"h{value}"
        if side == _CANDIDATE:
            return f"x{value}"
        counterpart = next((new for old, new in self.subprogram.positions if old == value - 2), None)
        return f"the baseline's x{value}" if counterpart is None else f"x{counterpart + 2}"
