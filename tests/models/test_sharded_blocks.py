"""The blocks written by hand, sharded over eight devices of the host, compute what one device does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRELUDE = """
import warnings

warnings.simplefilter("error")
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import primer_search.models.linen as linen_blocks
import primer_search.models.nnx as nnx_blocks
from flax import linen as nn, nnx

assert jax.device_count() == 8
mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
sharding = nnx_blocks.Sharding(batch="data", embed="data", heads="model", mlp="model")
x = jax.random.normal(jax.random.key(1), (4, 6, 16))
NAMES = {"TransformerPPBlock": {}, "PrimerEZBlock": {}, "PrimerBlock": {"length": 6}}


def is_split(array, *axes):
    return array.sharding.is_equivalent_to(NamedSharding(mesh, P(*axes)), array.ndim)
"""

NNX = """
for name, tied in NAMES.items():
    make = getattr(nnx_blocks, name)
    expected = make(16, 8, **tied, rngs=nnx.Rngs(0))(x)
    with jax.set_mesh(mesh):
        block = nnx.jit(lambda: make(16, 8, **tied, sharding=sharding, rngs=nnx.Rngs(0)))()
        assert is_split(block.attention.key.kernel[...], "data", "model", None)
        assert is_split(block.attention.out.kernel[...], "model", None, "data")
        assert is_split(block.feed_forward.hidden.kernel[...], "data", "model")
        assert is_split(block.feed_forward.out.kernel[...], "model", "data")
        assert is_split(block.attention_norm.scale[...], "data")
        spread = jax.device_put(x, NamedSharding(mesh, P("data")))
        y = nnx.jit(lambda block, x: block(x))(block, spread)
        block.init_cache(x.shape)
        assert is_split(block.attention.cache.key[...], "data", None, "model", None)
        decoded = nnx.jit(lambda block, x: block(x, decode=True))(block, spread)
    assert len(y.sharding.device_set) == 8
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-5)
print("done")
"""

LINEN = """
for name, tied in NAMES.items():
    make = getattr(linen_blocks, name)
    block = make(heads=8, **tied, sharding=sharding)
    specs = nn.get_partition_spec(jax.eval_shape(lambda: block.init(jax.random.key(0), x, decode=True)))
    assert specs["params"]["attention"]["key"]["kernel"] == P("data", "model", None)
    assert specs["params"]["feed_forward"]["out"]["kernel"] == P("model", "data")
    assert specs["params"]["attention_norm"]["scale"] == P("data")
    assert specs["cache"]["attention"]["cache"]["key"] == P("data", None, "model", None)
    placement = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
    with jax.set_mesh(mesh):
        made = jax.jit(lambda: nn.unbox(block.init(jax.random.key(0), x, decode=True)), out_shardings=placement)()
        spread = jax.device_put(x, NamedSharding(mesh, P("data")))
        y = jax.jit(block.apply)({"params": made["params"]}, spread)
        decoded, changed = jax.jit(lambda v, x: block.apply(v, x, decode=True, mutable=["cache"]))(made, spread)
    expected = make(heads=8, **tied).apply({"params": jax.device_get(made["params"])}, x)
    assert len(y.sharding.device_set) == 8
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-5)
print("done")
"""


@pytest.mark.parametrize("code", [pytest.param(NNX, id="nnx"), pytest.param(LINEN, id="linen", marks=pytest.mark.slow)])
def test_sharded_blocks_compute_what_one_device_does(code: str) -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PRELUDE + code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["done"]


def test_one_mesh_axis_cannot_split_two_axes_of_an_array() -> None:
    from primer_search.models import Sharding

    with pytest.raises(ValueError, match="embed and mlp over the same mesh axis 'model'"):
        Sharding(embed="model", mlp="model")
    with pytest.raises(ValueError, match="batch and heads over the same mesh axis 'model'"):
        Sharding(batch="model", heads="model")
