"""Assembler texts of the Transformer, of Primer and of mesa layers, one subprogram at a time (see `assembler`).

References: Primer (So et al. 2021, arXiv 2109.08668), appendix A.1 and the figures of appendix A.2; mesa layer (von
Oswald et al. 2023, arXiv 2309.05858; MesaNet, 2025, arXiv 2506.05233).
"""

from __future__ import annotations

__all__ = [
    "MESA_HYBRID_TEXT",
    "MESA_TEXT",
    "MULTI_DCONV_HEAD_TEXT",
    "PRIMER_TEXT",
    "RMS_NORM_TEXT",
    "SQUARED_RELU_TEXT",
    "SWISH_TEXT",
    "TRANSFORMER_TEXT",
]

# Subprograms S0 to S9 of the paper's conceptual initialization, in the paper's order.
TRANSFORMER_TEXT = {
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
SQUARED_RELU_TEXT = """
    positive = MAX h0 constant=zero
    squared  = SQUARE positive
"""
RMS_NORM_TEXT = """
    squared = SQUARE h0
    power   = RED_MEAN squared
    root    = ABS_ROOT power
    unit    = DIVIDE h0 root
    scaled  = SCALE unit
"""
SWISH_TEXT = """
    gate   = SIGMOID h0
    active = MULTIPLY h0 gate
"""
# A head projection runs inside each of the eight branches, so this convolution is per head, after each of Q, K and V.
MULTI_DCONV_HEAD_TEXT = """
    projected = CONV_1X1 h0 width=8
    convolved = DCONV_3X1 projected
"""

# Differences from the Transformer, numbered (1) to (8). The paper does not give the places of the dead MAX
# instructions: one is in the attention, one in the feed forward (our choice).
PRIMER_TEXT = {
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
    "layer_norm": TRANSFORMER_TEXT["layer_norm"],
    # (6) x (x - mean) instead of (x - mean)^2; the mean of both is the variance
    "z_score": """
        mean      = RED_MEAN h0
        centred   = DIFFERENCE h0 mean
        product   = MULTIPLY h0 centred
        variance  = RED_MEAN product
        deviation = ABS_ROOT variance
        score     = DIVIDE centred deviation
    """,
    "scale_shift": TRANSFORMER_TEXT["scale_shift"],
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

# Queries and keys as in MesaNet, but with a convolution over 3 positions instead of 4, because no primitive reads 4.
# MesaNet's gates, which reduce the weight of old keys, are left out: LEAST_SQUARES gives all keys equal weight.
_MESA_LAYER = {
    "mesa_attention": """
        keys      = mesa_projection h0
        queries   = mesa_projection h0
        values    = head_projection h0
        solved    = LEAST_SQUARES queries keys
        scores    = T_MAT_MUL solved keys
        visible   = MASK scores
        predicted = MAT_MUL visible values
        output    = rms_norm predicted
    """,
    "mesa_projection": """
        projected = CONV_1X1 h0 width=8
        convolved = DCONV_3X1 projected
        active    = swish convolved
        result    = l2_norm active
    """,
    "l2_norm": """
        squared = SQUARE h0
        total   = RED_SUM squared
        norm    = ABS_ROOT total
        unit    = DIVIDE h0 norm
    """,
    "swish": SWISH_TEXT,
    "rms_norm": RMS_NORM_TEXT,
}
_SHARED = ("feed_forward", "head_projection", "layer_norm", "z_score", "scale_shift", "residual", "relu")


def _with_mesa_layer(main: str, *kept: str) -> dict[str, str]:
    """Return the texts of a block with mesa layers: its `main`, and subprograms of the Transformer, callees last."""
    layer = {name: _MESA_LAYER[name] for name in ("mesa_attention", "mesa_projection")}
    rest = {name: _MESA_LAYER[name] for name in ("l2_norm", "swish", "rms_norm")}
    return {"main": main, **layer, **{name: TRANSFORMER_TEXT[name] for name in (*kept, *_SHARED)}, **rest}


MESA_TEXT = _with_mesa_layer(TRANSFORMER_TEXT["main"].replace("self_attention", "mesa_attention"))

# Softmax attention, the mesa layer, and a feed forward half as wide, which keeps the parameters near the Transformer's.
MESA_HYBRID_TEXT = _with_mesa_layer(
    """
        normed      = layer_norm h0
        heads       = self_attention normed branches=8
        mixed       = CONV_1X1 heads width=8
        attended    = residual mixed h0
        normed_2    = layer_norm attended
        heads_2     = mesa_attention normed_2 branches=8
        mixed_2     = CONV_1X1 heads_2 width=8
        predicted   = residual mixed_2 attended
        renormed    = layer_norm predicted
        transformed = feed_forward renormed
        output      = residual transformed predicted
    """,
    "self_attention",
    "softmax",
) | {"feed_forward": TRANSFORMER_TEXT["feed_forward"].replace("width=32", "width=16")}
