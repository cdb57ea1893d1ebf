"""Library of named programs: the Transformer that a search starts from, known improvements, and Primer.

References: Primer (So et al. 2021, arXiv 2109.08668), section 3, appendix A.1 and the figures of appendix A.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..suggestions import did_you_mean
from .assembler import assemble, replace_subprogram
from .library_texts import (
    MESA_HYBRID_TEXT,
    MESA_TEXT,
    MULTI_DCONV_HEAD_TEXT,
    PRIMER_TEXT,
    RMS_NORM_TEXT,
    SQUARED_RELU_TEXT,
    SWISH_TEXT,
    TRANSFORMER_TEXT,
)
from .program import BRANCHES, DNA

__all__ = [
    "HEADS",
    "LIBRARY",
    "PRIMER",
    "PRIMER_EZ",
    "PRIMER_LITERAL",
    "TRANSFORMER",
    "TRANSFORMER_GELU",
    "TRANSFORMER_MDHA",
    "TRANSFORMER_MESA",
    "TRANSFORMER_MESA_HYBRID",
    "TRANSFORMER_PP",
    "TRANSFORMER_SQUARED_RELU",
    "LibraryProgram",
    "define_program",
    "get",
    "names",
    "native_unit",
]


@dataclass(frozen=True, slots=True)
class LibraryProgram:
    """A DNA with a name.

    Attributes:
        name: name on the command line.
        dna: the program, with its query scale for the native unit.
        description: description in one line.
        reference: paper that proposed it.
        native_unit: channels per unit of width at the paper's size (about 35M parameters, 6 layers).
        query_scale: index of the constant that is 1 / sqrt(head width), None if the program has none.
    """

    name: str
    dna: DNA
    description: str
    reference: str
    native_unit: int
    query_scale: int | None


HEADS = 8
"""Attention heads of all library programs, as in the paper."""

ATTENTIONS = ("self_attention", "mesa_attention")
"""Subprograms whose branches are heads."""

LIBRARY: dict[str, LibraryProgram] = {}
"""All named programs, in order of definition."""


def names() -> tuple[str, ...]:
    """Return the names of all library programs."""
    return tuple(LIBRARY)


def get(name: str, unit: int | None = None, heads: int = HEADS) -> DNA:
    """Return a library program.

    Args:
        name: one of `names()`.
        unit: channels per unit of width. A program with a query scale gets 1 / sqrt(head width), so that the
            baseline is a fair Transformer at every size (our choice). None keeps the scale of the native unit.
        heads: number of attention heads, one of `BRANCHES`: the branches of the call of the attention.

    Raises:
        UsageError: the name is unknown, the unit is not a positive integer, or the number of heads is not allowed.
    """
    program = _find(name)
    if unit is not None and (type(unit) is not int or unit < 1):
        raise UsageError(f"the unit of the library program {name} is {unit!r}, but must be an integer of at least 1")
    if heads not in BRANCHES:
        raise UsageError(f"the number of heads is {heads!r}, but must be one of {', '.join(map(str, BRANCHES))}")
    dna = program.dna if heads == HEADS else _with_heads(program.dna, heads)
    if program.query_scale is None or (unit is None and heads == HEADS):
        return dna
    constants = list(dna.constants)
    constants[program.query_scale] = 1.0 / math.sqrt((unit or program.native_unit) * HEADS / heads)
    return replace(dna, constants=tuple(constants))


def _with_heads(dna: DNA, heads: int) -> DNA:
    """Return a program with this number of branches in the calls of its attentions."""
    attentions = [index for index, subprogram in enumerate(dna.subprograms) if subprogram.name in ATTENTIONS]
    main = tuple(
        replace(instruction, branches=heads) if instruction.callee in attentions else instruction
        for instruction in dna.subprograms[0].instructions
    )
    return dna.with_instructions(0, main)


def native_unit(name: str) -> int:
    """Return the channels per unit of width at the paper's size: 64 (width 512), for PRIMER 48 (width 384).

    Raises:
        UsageError: the name is unknown.
    """
    return _find(name).native_unit


def _find(name: str) -> LibraryProgram:
    if name in LIBRARY:
        return LIBRARY[name]
    raise UsageError(f"unknown library program {name!r}{did_you_mean(name, LIBRARY)}")


def define_program(
    name: str,
    description: str,
    reference: str,
    subprograms: Mapping[str, str],
    constants: Mapping[str, float],
    dimensions: tuple[int, ...],
    unit: int = 64,
    length_dependent: bool = False,
) -> DNA:
    """Assemble a program, add it to the library and return its DNA."""
    dna = assemble(subprograms, constants, dimensions, length_dependent)
    scale = list(constants).index("query_scale") if "query_scale" in constants else None
    LIBRARY[name] = LibraryProgram(name, dna, description, reference, unit, scale)
    return dna


# --- the Transformer and its variants ----------------------------------------------------------------------------

_CONSTANTS = {"zero": 0.0, "query_scale": 0.125}
# The paper's bank holds six entries. The program needs 8 and 32, and the paper also names 2; the rest is our choice.
_DIMENSIONS = (8, 32, 2, 4, 16, 48)

TRANSFORMER = define_program(
    "TRANSFORMER",
    "Pre-norm decoder block with ReLU: the program a search starts from",
    "Vaswani et al. 2017, divided into subprograms as in Primer, appendix A.1",
    TRANSFORMER_TEXT,
    _CONSTANTS,
    _DIMENSIONS,
)

TRANSFORMER_GELU = define_program(
    "TRANSFORMER_GELU",
    "Transformer with GELU in its tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
    "Hendrycks and Gimpel 2016, arXiv 1606.08415",
    # No primitive adds a constant, so the 1 is multiplied out: x/2 + x/2 tanh(...).
    replace_subprogram(
        TRANSFORMER_TEXT,
        "relu",
        "gelu",
        """
        square  = SQUARE h0
        cube    = MULTIPLY square h0
        bend    = C_MUL cube constant=cubic
        bent    = ADD h0 bend
        steep   = C_MUL bent constant=slope
        gate    = TANH steep
        half    = C_MUL h0 constant=half
        gated   = MULTIPLY half gate
        result  = ADD half gated
    """,
    ),
    {"query_scale": 0.125, "half": 0.5, "cubic": 0.044715, "slope": math.sqrt(2 / math.pi)},
    _DIMENSIONS,
)

TRANSFORMER_PP = define_program(
    "TRANSFORMER_PP",
    "Transformer++: RMS norm and SwiGLU, without biases",
    "Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is Primer's, section 4",
    {
        "main": TRANSFORMER_TEXT["main"].replace("layer_norm", "rms_norm"),
        "self_attention": TRANSFORMER_TEXT["self_attention"],
        # As many parameters as the Transformer's 35.7M would need 2/3 of 32 = 21.33 units. Of the allowed widths, 24
        # gives 37.2M parameters at the paper's size and 16 gives 32.5M: 24 is nearer (our choice).
        "feed_forward": """
            gate   = CONV_1X1 h0 width=24
            active = swish gate
            value  = CONV_1X1 h0 width=24
            hidden = MULTIPLY active value
            output = CONV_1X1 hidden width=8
        """,
        "head_projection": TRANSFORMER_TEXT["head_projection"],
        "softmax": TRANSFORMER_TEXT["softmax"],
        "rms_norm": RMS_NORM_TEXT,
        "residual": TRANSFORMER_TEXT["residual"],
        "swish": SWISH_TEXT,
    },
    _CONSTANTS,
    (8, 24, 2, 4, 16, 48),
)

TRANSFORMER_SQUARED_RELU = define_program(
    "TRANSFORMER_SQUARED_RELU",
    "Transformer with squared ReLU",
    "Primer, section 4",
    replace_subprogram(TRANSFORMER_TEXT, "relu", "squared_relu", SQUARED_RELU_TEXT),
    _CONSTANTS,
    _DIMENSIONS,
)

TRANSFORMER_MDHA = define_program(
    "TRANSFORMER_MDHA",
    "Transformer with multi-dconv-head attention: a causal depthwise convolution in each head's Q, K and V",
    "Primer, section 4",
    TRANSFORMER_TEXT | {"head_projection": MULTI_DCONV_HEAD_TEXT},
    _CONSTANTS,
    _DIMENSIONS,
)

PRIMER_EZ = define_program(
    "PRIMER_EZ",
    "Primer-EZ: squared ReLU and multi-dconv-head attention, the changes that explain most of Primer's gain",
    "Primer, section 4",
    replace_subprogram(
        TRANSFORMER_TEXT | {"head_projection": MULTI_DCONV_HEAD_TEXT}, "relu", "squared_relu", SQUARED_RELU_TEXT
    ),
    _CONSTANTS,
    _DIMENSIONS,
)


# --- Primer as it was found -------------------------------------------------------------------------------------

_PRIMER_DIMENSIONS = (8, 16, 48, 2, 4, 32)

PRIMER = define_program(
    "PRIMER",
    "Primer as found by the search, with max(x, 0) in its feed forward, as in the paper's figures",
    "Primer, section 3 and appendix A.2",
    PRIMER_TEXT,
    {"factor": -1.12, "dead": -0.57, "floor": 0.0},
    _PRIMER_DIMENSIONS,
    unit=48,
    length_dependent=True,
)

PRIMER_LITERAL = define_program(
    "PRIMER_LITERAL",
    "Primer as found by the search, with max(x, -0.57) in its feed forward, as in the paper's list of instructions",
    "Primer, section 3 and appendix A.2",
    PRIMER_TEXT | {"squared_relu": PRIMER_TEXT["squared_relu"].replace("floor", "dead")},
    {"factor": -1.12, "dead": -0.57},
    _PRIMER_DIMENSIONS,
    unit=48,
    length_dependent=True,
)


# --- mesa layers ------------------------------------------------------------------------------------------------

_MESA_REFERENCE = "von Oswald et al. 2023, arXiv 2309.05858; layer as in MesaNet, arXiv 2506.05233, without gates"

TRANSFORMER_MESA = define_program(
    "TRANSFORMER_MESA",
    "Transformer with a mesa layer instead of attention: ridge regression of the values on the keys so far",
    _MESA_REFERENCE,
    MESA_TEXT,
    {"zero": 0.0},
    _DIMENSIONS,
)

TRANSFORMER_MESA_HYBRID = define_program(
    "TRANSFORMER_MESA_HYBRID",
    "Softmax attention, then a mesa layer, then a feed forward half as wide, in every block",
    _MESA_REFERENCE,
    MESA_HYBRID_TEXT,
    _CONSTANTS,
    _DIMENSIONS,
)
