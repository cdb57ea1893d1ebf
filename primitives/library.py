"""Programs with names: the Transformer a search starts from, its known improvements, and what Primer found.

Each is written in the lines of `notation`, one subprogram at a time, as a reader of the paper would like to see it.

References: Primer (So et al. 2021, arXiv 2109.08668), section 3, appendix A.1 and the figures of appendix A.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .assembler import assemble, replace_subprogram
from .errors import UsageError
from .program import DNA
from .suggestions import did_you_mean

__all__ = [
    "LIBRARY",
    "PRIMER",
    "PRIMER_EZ",
    "PRIMER_LITERAL",
    "TRANSFORMER",
    "TRANSFORMER_GELU",
    "TRANSFORMER_MDHA",
    "TRANSFORMER_PP",
    "TRANSFORMER_SQUARED_RELU",
    "NamedProgram",
    "get",
    "names",
    "native_unit",
]


@dataclass(frozen=True, slots=True)
class NamedProgram:
    """A DNA with a name.

    Attributes:
        name: as on the command line.
        dna: the program, its query scale at the native unit.
        description: one line.
        reference: who proposed it.
        native_unit: channels in one unit at the paper's size (about 35M parameters, 6 layers).
        query_scale: index of the constant that is 1 / sqrt(head width), None if the program has none.
    """

    name: str
    dna: DNA
    description: str
    reference: str
    native_unit: int
    query_scale: int | None


LIBRARY: dict[str, NamedProgram] = {}
"""All named programs, in the order they are defined below."""


def names() -> tuple[str, ...]:
    """The names of the library's programs."""
    return tuple(LIBRARY)


def get(name: str, unit: int | None = None) -> DNA:
    """A library program by its name.

    Args:
        name: one of `names()`.
        unit: channels in one unit of width. A head is one unit wide (8 units in 8 heads), so a program with a query
            scale gets 1 / sqrt(unit): the baseline is a fair Transformer at every size (our choice). None leaves
            it at the native unit.

    Raises:
        UsageError: there is no such program, or the unit is no width.
    """
    program = _find(name)
    if unit is not None and (type(unit) is not int or unit < 1):
        raise UsageError(f"the unit of the library program {name} is {unit!r}, but must be an integer of at least 1")
    if unit is None or program.query_scale is None:
        return program.dna
    constants = list(program.dna.constants)
    constants[program.query_scale] = 1.0 / math.sqrt(unit)
    return replace(program.dna, constants=tuple(constants))


def native_unit(name: str) -> int:
    """Channels in one unit at the paper's size: 64 (width 512), for PRIMER 48 (width 384).

    Raises:
        UsageError: there is no such program.
    """
    return _find(name).native_unit


def _find(name: str) -> NamedProgram:
    if name in LIBRARY:
        return LIBRARY[name]
    raise UsageError(f"there is no library program named {name!r}{did_you_mean(name, LIBRARY)}")


def _define(
    name: str,
    description: str,
    reference: str,
    subprograms: Mapping[str, str],
    constants: Mapping[str, float],
    dimensions: tuple[int, ...],
    unit: int = 64,
    length_dependent: bool = False,
) -> DNA:
    """Assemble a program, file it in the library and return its DNA."""
    dna = assemble(subprograms, constants, dimensions, length_dependent)
    scale = list(constants).index("query_scale") if "query_scale" in constants else None
    LIBRARY[name] = NamedProgram(name, dna, description, reference, unit, scale)
    return dna


# --- the Transformer, cut by concept ----------------------------------------------------------------------------

# S0 to S9 of the paper's conceptual initialization, in its order.
_TRANSFORMER = {
    "main": """
        normed      = layer_norm h0
        heads       = self_attention normed branches=8
        mixed       = CONV_1X1 heads width=8
        attended    = residual mixed h0
        renormed    = layer_norm attended
        transformed = feed_forward renormed
        output      = residual transformed attended
    """,
    "self_attention": """
        keys     = head_projection h0
        queries  = head_projection h0
        values   = head_projection h0
        scaled   = C_MUL queries constant=query_scale
        scores   = T_MAT_MUL scaled keys
        weights  = softmax scores
        attended = MAT_MUL weights values
    """,
    "feed_forward": """
        hidden = CONV_1X1 h0 width=32
        biased = SHIFT hidden
        active = relu biased
        output = CONV_1X1 active width=8
        result = SHIFT output
    """,
    "head_projection": """
        projected = CONV_1X1 h0 width=8
    """,
    "softmax": """
        positive = EXP h0
        masked   = MASK positive
        total    = RED_SUM masked
        weights  = DIVIDE masked total
    """,
    "layer_norm": """
        score  = z_score h0
        scaled = scale_shift score
    """,
    "z_score": """
        mean      = RED_MEAN h0
        centred   = DIFFERENCE h0 mean
        squared   = MULTIPLY centred centred
        variance  = RED_MEAN squared
        deviation = ABS_ROOT variance
        score     = DIVIDE centred deviation
    """,
    "scale_shift": """
        scaled  = SCALE h0
        shifted = SHIFT scaled
    """,
    "residual": """
        sum = ADD h0 h1
    """,
    "relu": """
        positive = MAX h0 constant=zero
    """,
}
_CONSTANTS = {"zero": 0.0, "query_scale": 0.125}
# The paper's bank holds six; the program needs 8 and 32, the paper names 2 as well. The other three are our choice.
_DIMENSIONS = (8, 32, 2, 4, 16, 48)

_SQUARED_RELU = """
    positive = MAX h0 constant=zero
    squared  = SQUARE positive
"""
# A head projection runs inside each of the eight branches, so this convolution is per head, after each of Q, K and V.
_MULTI_DCONV_HEAD = """
    projected = CONV_1X1 h0 width=8
    convolved = DCONV_3X1 projected
"""

TRANSFORMER = _define(
    "TRANSFORMER",
    "Pre-norm decoder block with ReLU: the program a search starts from",
    "Vaswani et al. 2017, cut by concept as in Primer, appendix A.1",
    _TRANSFORMER,
    _CONSTANTS,
    _DIMENSIONS,
)

TRANSFORMER_GELU = _define(
    "TRANSFORMER_GELU",
    "Transformer with GELU in its tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
    "Hendrycks and Gimpel 2016, arXiv 1606.08415",
    # No primitive adds a constant, so the 1 is multiplied out: x/2 + x/2 tanh(...).
    replace_subprogram(
        _TRANSFORMER,
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

TRANSFORMER_PP = _define(
    "TRANSFORMER_PP",
    "Transformer++: RMS norm and SwiGLU, without biases",
    "Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is Primer's, section 4",
    {
        "main": _TRANSFORMER["main"].replace("layer_norm", "rms_norm"),
        "self_attention": _TRANSFORMER["self_attention"],
        # Equal parameters would ask for 2/3 of 32 = 21.33 units. Of the widths there are, 24 gives 37.2M
        # parameters at the paper's size and 16 gives 32.5M, beside the Transformer's 35.7M: 24 is nearer (our choice).
        "feed_forward": """
            gate   = CONV_1X1 h0 width=24
            active = swish gate
            value  = CONV_1X1 h0 width=24
            hidden = MULTIPLY active value
            output = CONV_1X1 hidden width=8
        """,
        "head_projection": _TRANSFORMER["head_projection"],
        "softmax": _TRANSFORMER["softmax"],
        "rms_norm": """
            squared = SQUARE h0
            power   = RED_MEAN squared
            root    = ABS_ROOT power
            unit    = DIVIDE h0 root
            scaled  = SCALE unit
        """,
        "residual": _TRANSFORMER["residual"],
        "swish": """
            gate   = SIGMOID h0
            active = MULTIPLY h0 gate
        """,
    },
    _CONSTANTS,
    (8, 24, 2, 4, 16, 48),
)

TRANSFORMER_SQUARED_RELU = _define(
    "TRANSFORMER_SQUARED_RELU",
    "Transformer with squared ReLU",
    "Primer, section 4",
    replace_subprogram(_TRANSFORMER, "relu", "squared_relu", _SQUARED_RELU),
    _CONSTANTS,
    _DIMENSIONS,
)

TRANSFORMER_MDHA = _define(
    "TRANSFORMER_MDHA",
    "Transformer with multi-dconv-head attention: a causal depthwise convolution in each head's Q, K and V",
    "Primer, section 4",
    _TRANSFORMER | {"head_projection": _MULTI_DCONV_HEAD},
    _CONSTANTS,
    _DIMENSIONS,
)

PRIMER_EZ = _define(
    "PRIMER_EZ",
    "Primer-EZ: squared ReLU and multi-dconv-head attention, what carries over from Primer",
    "Primer, section 4",
    replace_subprogram(_TRANSFORMER | {"head_projection": _MULTI_DCONV_HEAD}, "relu", "squared_relu", _SQUARED_RELU),
    _CONSTANTS,
    _DIMENSIONS,
)


# --- Primer as it was found -------------------------------------------------------------------------------------

# What is new against the Transformer, numbered (1) to (8). The dead MAX instructions
# stand where the paper does not say: one in the attention, one in the feed forward (our choice).
_PRIMER = {
    # (5) the norm follows the feed forward's output, before its residual
    "main": """
        normed      = layer_norm h0
        heads       = self_attention normed branches=8
        mixed       = CONV_1X1 heads width=8
        attended    = residual mixed h0
        transformed = feed_forward attended
        renormed    = layer_norm transformed
        output      = residual renormed attended
    """,
    # (2) queries are another projection of the keys, without a scale; (8) a dead MAX
    "self_attention": """
        keys     = head_projection h0
        queries  = CONV_1X1 keys width=8
        values   = head_projection h0
        scores   = T_MAT_MUL queries keys
        dead     = MAX scores constant=dead
        weights  = softmax scores
        attended = MAT_MUL weights values
    """,
    # (1) twelve times wider than the model, in two branches; (7) no bias on the output; (8) a dead MAX
    "feed_forward": """
        hidden = CONV_1X1 h0 width=48 branches=2
        biased = SHIFT hidden
        dead   = MAX biased constant=dead
        active = squared_relu biased
        output = CONV_1X1 active width=8
    """,
    # (2) a convolution in each head, then a factor
    "head_projection": """
        projected = CONV_1X1 h0 width=8
        convolved = DCONV_3X1 projected
        scaled    = C_MUL convolved constant=factor
    """,
    # (3) tanh, then a learned scale for each key position: this ties the block to one length
    "softmax": """
        positive = EXP h0
        masked   = MASK positive
        total    = RED_SUM masked
        weights  = DIVIDE masked total
        squashed = TANH weights
        scaled   = SCALE squashed
    """,
    "layer_norm": _TRANSFORMER["layer_norm"],
    # (6) x (x - mean) instead of (x - mean)^2; the mean of both is the variance
    "z_score": """
        mean      = RED_MEAN h0
        centred   = DIFFERENCE h0 mean
        product   = MULTIPLY h0 centred
        variance  = RED_MEAN product
        deviation = ABS_ROOT variance
        score     = DIVIDE centred deviation
    """,
    "scale_shift": _TRANSFORMER["scale_shift"],
    # (4) the branch is added twice: x + 2 f
    "residual": """
        sum   = ADD h0 h1
        twice = ADD h0 sum
    """,
    # (7) squared
    "squared_relu": """
        positive = MAX h0 constant=floor
        squared  = SQUARE positive
    """,
}
_PRIMER_DIMENSIONS = (8, 16, 48, 2, 4, 32)

PRIMER = _define(
    "PRIMER",
    "Primer as found by the search, its feed forward cut off at 0, as the paper draws it",
    "Primer, section 3 and appendix A.2",
    _PRIMER,
    {"factor": -1.12, "dead": -0.57, "floor": 0.0},
    _PRIMER_DIMENSIONS,
    unit=48,
    length_dependent=True,
)

PRIMER_LITERAL = _define(
    "PRIMER_LITERAL",
    "Primer as found by the search, its feed forward cut off at -0.57, as the paper lists its instructions",
    "Primer, section 3 and appendix A.2",
    _PRIMER | {"squared_relu": _PRIMER["squared_relu"].replace("floor", "dead")},
    {"factor": -1.12, "dead": -0.57},
    _PRIMER_DIMENSIONS,
    unit=48,
    length_dependent=True,
)
