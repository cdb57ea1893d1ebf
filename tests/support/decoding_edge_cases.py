"""Edge cases of decoding: programs that use scores and values of other branches as no library program does."""

from __future__ import annotations

from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA

__all__ = ["EDGE_CASES", "edge_case"]

SCORED = "keys = CONV_1X1 h0 width=8\nscores = T_MAT_MUL h0 keys\n"
MASKED = SCORED + "masked = MASK scores\n"
SOFTMAX = SCORED + "e = EXP scores\nm = MASK e\nt = RED_SUM m\nweights = DIVIDE m t\n"
USED = "y = MAT_MUL used h0"
EDGE_CASES: dict[str, str | dict[str, str]] = {
    "masked scores times scores": MASKED + "p = MAT_MUL masked scores\nused = MASK p\n" + USED,
    "masked scores times masked scores": MASKED + "used = MAT_MUL masked masked\n" + USED,
    "masked scores thrice": MASKED + "p = MAT_MUL masked scores\nq = MAT_MUL masked p\nused = MASK q\n" + USED,
    "scores of two kinds": MASKED + "p = MAT_MUL masked scores\nq = ADD p scores\nused = MASK q\n" + USED,
    "a softmax times itself": SOFTMAX + "used = MAT_MUL weights weights\n" + USED,
    "scores scaled by what rows sum to":
        MASKED + "r = RED_SUM masked\ns = MULTIPLY scores r\np = MAT_MUL masked s\nused = MASK p\n" + USED,
    "a running sum of scores": SCORED + "c = CUM_SUM scores\nused = MASK c\n" + USED,
    "a running product of scores": SCORED + "c = CUM_PROD scores\nused = MASK c\n" + USED,
    "a running sum of masked scores, times scores": MASKED + "c = CUM_SUM masked\nused = MAT_MUL c masked\n" + USED,
    "convolved scores": SCORED + "c = DCONV_3X1 scores\nused = MASK c\n" + USED,
    "convolved masked scores": MASKED + "used = DCONV_7X1 masked\n" + USED,
    "scaled scores": SCORED + "c = SCALE scores\nused = MASK c\n" + USED,
    "the mean over keys": MASKED + "r = RED_MEAN masked\ny = MULTIPLY h0 r",
    "the largest key of shifted scores": MASKED + "b = SHIFT masked\nr = RED_MAX b\ny = MULTIPLY h0 r",
    "scores as features": MASKED + "y = CONV_1X1 masked width=8",
    "convolved scores as features": MASKED + "b = SHIFT masked\ny = CONV_3X1 b width=8",
    "scores as features, and times scores":
        MASKED + "f = CONV_3X1 masked width=8\np = MAT_MUL masked masked\nv = MAT_MUL p h0\ny = ADD f v",
    "a softmax over keys that a mask made zero":
        MASKED + "b = SCALE masked\ne = EXP b\nt = RED_SUM e\nd = DIVIDE e t\nused = MASK d\n" + USED,
    "scores of scalars":
        "r = RED_MEAN h0\ns = T_MAT_MUL r r\nm = MASK s\nc = MAT_MUL m r\nd = CUM_SUM c\ne = CUM_PROD r\nf = ADD d e\n"
        "y = ADD f h0",
    "the input as queries, keys and values": "s = T_MAT_MUL h0 h0\nused = MASK s\n" + USED,
    "attention between a convolution and a running sum":
        "keys = DCONV_3X1 h0\ns = T_MAT_MUL h0 keys\nm = MASK s\na = MAT_MUL m h0\ny = CUM_SUM a",
    "no history": "a = DCONV_3X1 h0\nb = CUM_SUM a\nc = CUM_PROD h0\nd = CONV_7X1 b width=16\ne = ADD b c\ny = ADD d e",
    "least squares of what branches share, and of scalars": {
        "main": "joined = inner h0 h0 branches=2\nm = RED_MEAN h0\nr = RED_MAX h0\ns = LEAST_SQUARES m r\n"
                "z = LEAST_SQUARES h0 joined\ny = MULTIPLY z s",
        "inner": "q = CONV_1X1 h0 width=16\na = LEAST_SQUARES q h1\nb = LEAST_SQUARES h1 q\ny = ADD a b",
    },
    "branches in branches": {
        "main": "joined = outer h0 h0 branches=2\ns = T_MAT_MUL joined joined\nm = MASK s\ny = MAT_MUL m joined",
        "outer": "middle = CONV_1X1 h0 width=16\nrun = CUM_SUM middle\ninner = inner run h1 branches=4\n"
                 "twice = ABS h0 branches=2\ny = ADD inner twice",
        "inner": "q = CONV_3X1 h0 width=64\ns = T_MAT_MUL q h1\nm = MASK s\nc = DCONV_3X1 h0\na = MAT_MUL m c\n"
                 "b = MAT_MUL m h1\nd = CONV_1X1 b width=8\ny = ADD a d",
    },
    "scores from outside a branch": {
        "main": "keys = CONV_1X1 h0 width=8\ns = T_MAT_MUL h0 keys\nm = MASK s\nr = RED_SUM m\nc = CUM_SUM r\n"
                "w = inner m c branches=2\ny = CONV_1X1 w width=8",
        "inner": "a = MULTIPLY h0 h1\nb = MAT_MUL h0 a\nv = CONV_1X1 h1 width=16\nd = DCONV_3X1 h1\ne = MULTIPLY v d\n"
                 "y = MAT_MUL b e",
    },
}  # fmt: skip
"""The text of MAIN, or of every subprogram, by what it is about. All are causal, some tied to one length."""


def edge_case(name: str) -> DNA:
    """One of them, valid at 2 channels a unit."""
    text = EDGE_CASES[name]
    return assemble(text if isinstance(text, dict) else {"main": text}, {"zero": 0.0}, (8, 16, 64))
