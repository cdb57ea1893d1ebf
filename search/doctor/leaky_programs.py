"""Leaky programs: each sees the future in a different way, and a check that accepts one of them is broken.

Each is a well-formed DNA, a mutation or two away from a causal block, and must be refused for the reason given here.
Where random inputs can also show the leak, two checks must refuse it independently: the proof (`causality_proof`) and
the test on resampled futures (`causality_test`). Blocks that see the future in ways that no program can are in
`leaky_blocks`.

The programs imitate leaks of published systems: a finite or misplaced mask, an even function of the future, a gate that
opens in training, and losses of zero that were overflows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...primitives import DNA
from ...primitives.programs.assembler import assemble

__all__ = ["LEAKY_PROGRAMS", "LeakyProgram"]


@dataclass(frozen=True, slots=True)
class LeakyProgram:
    """A program that sees the future.

    Attributes:
        name: short unique name.
        how: one sentence about the leak.
        dna: program.
        refused_by: stages (of `refusals.STAGES`) that must refuse it, each independently; other stages may, too.
        reason: reason of the first of these stages, as in `InvalidProgramError`.
    """

    name: str
    how: str
    dna: DNA
    refused_by: tuple[str, ...]
    reason: str


LEAKY_PROGRAMS: dict[str, LeakyProgram] = {}
"""Leaky programs by name, in the order of their definition."""

_CONSTANTS = {"zero": 0.0, "tenth": 0.1, "1e-4": 1e-4, "1e-6": 1e-6, "1e-14": 1e-14, "1e15": 1e15}
_HEAD = """
    keys    = CONV_1X1 h0 width=8
    queries = CONV_1X1 h0 width=8
    values  = CONV_1X1 h0 width=8
    scores  = T_MAT_MUL queries keys
    {}
    mixed   = MAT_MUL weights values
    output  = ADD mixed h0
"""
_OVERFLOW = "s = T_MAT_MUL h0 h0; m = MASK s; q = SQUARE s; e = EXP q; f = EXP e; p = MULTIPLY m f; t = RED_SUM p"


def _define(
    name: str,
    how: str,
    *subprograms: str,
    refused_by: tuple[str, ...] = ("proof", "test"),
    reason: str = "causality",
    length_dependent: bool = False,
) -> None:
    """Register a leaky program from the lines, separated by `;`, of MAIN and of further subprograms `f` and `g`."""
    bodies = ("\n".join(line.strip() for line in body.split(";")) for body in subprograms)
    texts: dict[str, str] = dict(zip(("main", "f", "g"), bodies, strict=False))
    dna = assemble(texts, _CONSTANTS, (8, 32), length_dependent)
    LEAKY_PROGRAMS[name] = LeakyProgram(name, how, dna, refused_by, reason)


def _head(name: str, how: str, lines: str, **facts: object) -> None:
    """Register a leaky attention head whose `weights` these lines compute."""
    body = _HEAD.strip().replace("\n", ";").replace("{}", lines)
    _define(name, how, body, **facts)  # type: ignore[arg-type]


# --- no mask, or the mask in the wrong place --------------------------------------------------------------------

_head("unmasked softmax", "attention without a mask", "p = EXP scores; t = RED_SUM p; weights = DIVIDE p t")
_head(
    "mask before exp",
    "exp turns the masked zeros into ones, so every later value is mixed in",
    "m = MASK scores; p = EXP m; t = RED_SUM p; weights = DIVIDE p t",
)
_head(
    "total before mask",
    "the softmax is masked, but was normalised by a total that includes later keys",
    "p = EXP scores; t = RED_SUM p; m = MASK p; weights = DIVIDE m t",
)
_head(
    "maximum before mask",
    "the scores are shifted by their maximum over all keys, and not normalised afterwards",
    "t = RED_MAX scores; d = DIFFERENCE scores t; p = EXP d; weights = MASK p",
    length_dependent=True,
)
_define(
    "mask on the values",
    "MASK is on an activation, where it does nothing, and not on the scores",
    "s = T_MAT_MUL h0 h0; p = EXP s; t = RED_SUM p; w = DIVIDE p t; m = MASK h0; o = MAT_MUL w m",
)
_head("linear attention", "scores with neither a mask nor an exp weigh the values", "weights = ABS scores")
_define(
    "attention to itself",
    "the block's input times its transpose weighs the input",
    "s = T_MAT_MUL h0 h0; o = MAT_MUL s h0",
)
_define(
    "one subprogram unmasked",
    "eight heads in a subprogram that masks its scores, but weighs by the unmasked ones",
    "a = f h0 h0 branches=8; o = ADD a h0",
    "k = CONV_1X1 h0 width=8; s = T_MAT_MUL k k; m = MASK s; p = EXP s; o = MAT_MUL p k",
)

# --- the mask undone --------------------------------------------------------------------------------------------

_head("cosine of masked", "cos(0) is 1: masked keys weigh the most", "m = MASK scores; weights = COS m")
_head("sigmoid of masked", "sigmoid(0) is a half", "m = MASK scores; weights = SIGMOID m")
_head("logarithm of masked", "the guard of LOG makes -13.8 of a masked zero", "m = MASK scores; weights = LOG m")
_head(
    "a floor under the mask",
    "no weight is below 0.1, masked ones included",
    "m = MASK scores; weights = MAX m constant=tenth",
)
_head(
    "scores minus masked scores",
    "only the scores that the mask removes are left",
    "m = MASK scores; weights = DIFFERENCE scores m",
)
_head(
    "scores plus masked scores",
    "the unmasked scores are added to the masked ones",
    "m = MASK scores; weights = ADD m scores",
)
_head(
    "a total added after the mask",
    "a total over all keys is added to every score, also to the masked zeros",
    "t = RED_SUM scores; m = MASK scores; weights = ADD m t",
)

# --- reductions over the keys -----------------------------------------------------------------------------------

for _reduction, _what in (("RED_SUM", "sum"), ("RED_MEAN", "mean"), ("RED_MAX", "largest"), ("RED_MIN", "smallest"),
                          ("RED_PROD", "product")):  # fmt: skip
    _define(
        f"{_what} over keys",
        f"the {_what} of a row of unmasked scores is added to each position",
        f"s = T_MAT_MUL h0 h0; c = TANH s; t = {_reduction} c; o = ADD t h0",
        length_dependent=_reduction != "RED_SUM",
    )
_define(
    "sums of rows only",
    "no later value is mixed in, but the totals of the rows depend on later keys",
    "k = CONV_1X1 h0 width=8; s = T_MAT_MUL k k; t = RED_SUM s; g = SIGMOID t; o = MULTIPLY h0 g",
)
_define(
    "one bit of the future",
    "only the sign of a sum over all keys is used",
    "s = T_MAT_MUL h0 h0; t = RED_SUM s; b = SIGN t; o = MULTIPLY h0 b",
)
_define(
    "logarithm of the sum of exps",
    "the softmax's normaliser over all keys is read as a feature",
    "k = CONV_1X1 h0 width=8; s = T_MAT_MUL k k; c = TANH s; p = EXP c; t = RED_SUM p; l = LOG t; o = ADD l h0",
)
_define(
    "dense layer over keys",
    "a learned weight for each key reads the unmasked scores",
    "s = T_MAT_MUL h0 h0; c = TANH s; d = CONV_1X1 c width=8; o = ADD d h0",
    length_dependent=True,
)
_define(
    "count of later positions",
    "exp turns the masked zeros into ones, and their sum shows how many positions follow",
    "s = T_MAT_MUL h0 h0; m = MASK s; p = EXP m; t = RED_SUM p; l = LOG t; o = MULTIPLY h0 l",
)
_define(
    "mean over masked keys",
    "the mask is right, but the mean divides by the length, and the program does not declare that it depends on it",
    "s = T_MAT_MUL h0 h0; m = MASK s; t = RED_MEAN m; o = ADD t h0",
    refused_by=("language",),
    reason="length_dependent",
)
_define(
    "dense layer over masked keys",
    "it learns a weight for each key, so it works at one length only, and the program does not declare that",
    "s = T_MAT_MUL h0 h0; m = MASK s; d = CONV_1X1 m width=8; o = ADD d h0",
    refused_by=("language",),
    reason="length_dependent",
)

# --- scores times scores, transposes ----------------------------------------------------------------------------

_head(
    "scores times scores",
    "the mask comes after a product that summed over all positions",
    "p = MAT_MUL scores scores; weights = MASK p",
)
_head(
    "masked times unmasked",
    "a product with unmasked scores brings the future back",
    "m = MASK scores; weights = MAT_MUL m scores",
)
_head(
    "unmasked times masked",
    "the left factor reads later rows of the right",
    "m = MASK scores; p = MAT_MUL scores m; weights = MASK p",
)
_define(
    "double transpose",
    "causal attention gives new features, and their unmasked scores mix the positions again",
    "s = T_MAT_MUL h0 h0; m = MASK s; v = MAT_MUL m h0; t = T_MAT_MUL v h0; o = MAT_MUL t h0",
)
_define(
    "transposed mask",
    "masked scores times their transpose would weigh later positions",
    "s = T_MAT_MUL h0 h0; m = MASK s; t = T_MAT_MUL m m; o = MAT_MUL t h0",
    refused_by=("language",),
    reason="kinds",
)
_head(
    "running sum of a leak",
    "running sums along the length carry an unmasked product below the diagonal",
    "p = MAT_MUL scores scores; r = CUM_SUM p; weights = MASK r",
)

# --- made to escape a test --------------------------------------------------------------------------------------

_define(
    "even function of the future",
    "only squares of scores are summed, so negating the future changes nothing",
    "s = T_MAT_MUL h0 h0; q = SQUARE s; t = RED_SUM q; r = ABS_ROOT t; o = ADD r h0",
)
_head(
    "leak of 1e-4",
    "a ten-thousandth of the unmasked scores is added",
    "l = C_MUL scores constant=1e-4; m = MASK scores; weights = ADD m l",
)
_head(
    "leak of 1e-6",
    "a millionth of the unmasked scores is added, too little for a test of the model in float32",
    "l = C_MUL scores constant=1e-6; m = MASK scores; weights = ADD m l",
)
_head(
    "leak of 1e-14",
    "the leak is below the rounding of float64: only a proof can find it",
    "l = C_MUL scores constant=1e-14; m = MASK scores; weights = ADD m l",
    refused_by=("proof",),
)
_define(
    "tiny, then normalised",
    "the leak is made tiny, and a norm makes it large again",
    "s = T_MAT_MUL h0 h0; l = MAT_MUL s h0; y = C_MUL l constant=1e-6; q = SQUARE y; n = RED_MEAN q; r = ABS_ROOT n; "
    "o = DIVIDE y r",
)
_define(
    "gate that starts shut",
    "the leak is multiplied by the value that SHIFT adds, which is zero until training changes it",
    "s = T_MAT_MUL h0 h0; l = MAT_MUL s h0; a = SHIFT h0; g = DIFFERENCE a h0; y = MULTIPLY l g; o = ADD y h0",
)
_define(
    "scale that starts at one",
    "the leak is multiplied by the change that SCALE makes, which is zero until training changes it",
    "s = T_MAT_MUL h0 h0; l = MAT_MUL s h0; a = SCALE h0; g = DIFFERENCE a h0; y = MULTIPLY l g; o = ADD y h0",
)
_head(
    "bias on masked scores",
    "a bias for each key is added after the mask; nothing leaks while it has its initial value, zero",
    "m = MASK scores; weights = SHIFT m",
    length_dependent=True,
)
_define(
    "leak above a threshold",
    "it opens where a sum over all keys is above 1e15, which random inputs never reach",
    "s = T_MAT_MUL h0 h0; t = RED_SUM s; u = MAX t constant=1e15; o = ADD u h0",
    refused_by=("proof",),
)
_define(
    "leak that saturates",
    "a sum over all keys goes through exp three times and a reciprocal, which gives 0 unless the sum is small",
    "s = T_MAT_MUL h0 h0; q = SQUARE s; t = RED_SUM q; a = EXP t; b = EXP a; c = EXP b; r = RECIP c; o = ADD r h0",
    refused_by=("proof",),
)
_define(
    "not a number where the future is large",
    "a masked zero times an overflow is NaN, and whether it overflows depends on later keys",
    f"{_OVERFLOW}; g = SIGN t; o = ADD g h0",
    refused_by=("test",),
    reason="finiteness",
)
_define(
    "root of what is not a number",
    "the same, through two ops with guards; a guard that replaced NaN by a number would reveal the overflow",
    f"{_OVERFLOW}; g = RECIP t; r = ABS_ROOT g; o = ADD r h0",
    refused_by=("test",),
    reason="finiteness",
)
