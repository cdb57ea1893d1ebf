"""A plugin: the gated unit SwiGLU (Shazeer 2020, arXiv 2002.05202) as one primitive, and a Transformer with it."""

import jax
import numpy as np

from primer_search.plugins import TRANSFORMER_TEXT, Init, Parameter, Plugin, ProgramText, primitive


def gated_unit(x, gate, value):
    return jax.nn.silu(x @ gate) * (x @ value)


def reference(x, gate, value):
    y = x @ gate
    return y * 0.5 * (1 + np.tanh(0.5 * y)) * (x @ value)


GATED_UNIT = primitive(
    "GATED_UNIT", "silu(x times a matrix) * (x times another)", gated_unit, reference,
    parameters=[Parameter("gate", ("in", "out"), Init.FAN_IN), Parameter("value", ("in", "out"), Init.FAN_IN)],
    uses_dimension=True, flops=lambda s: (4.0 * s.in_size + 6.0) * s.out_size, family="dense",
    source="Shazeer 2020, arXiv 2002.05202",
)  # fmt: skip

FEED_FORWARD = """
    hidden = GATED_UNIT h0 width=32
    output = CONV_1X1 hidden width=8
"""
TEXT = {name: text for name, text in TRANSFORMER_TEXT.items() if name != "relu"} | {"feed_forward": FEED_FORWARD}
PLUGIN = Plugin([GATED_UNIT], programs={"TRANSFORMER_GATED": ProgramText("Transformer with one gated unit", TEXT)})
