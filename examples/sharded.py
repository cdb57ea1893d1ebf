"""Blocks sharded over eight devices of the host: the batch over one axis of the mesh, the parameters over the other.

The hand-written block takes `sharding=` and creates its parameters on the mesh. The exported block has no such
argument. Rules that match the paths of its parameters place them on the mesh, and XLA divides the work in the same way.
Both blocks train to the same losses as on one device.

    python examples/sharded.py
"""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"  # both before JAX is imported

import re

import jax
import jax.numpy as jnp
import optax
from exported_primer_ez import PrimerEZBlock as ExportedBlock
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from primer_search.models import PrimerEZBlock, Sharding

WIDTH, HEADS, BATCH, LENGTH = 32, 4, 8, 16

RULES = {
    r"(key|query|value)_projection/kernel": P(None, "model", None),  # [width, heads, head width]
    r"(key|query|value)_conv/kernel": P(None, "model", None),  # [taps, heads, head width]
    r"output_projection/kernel": P("model", None, None),  # [heads, head width, width]
    r"up/kernel": P(None, "model"),
    r"up/bias": P("model"),
    r"down/kernel": P("model", None),
}
"""Partition specs of the exported block's parameters, as in Shoeybi et al. 2019; all others are replicated."""


def place(block: nnx.Module, mesh: jax.sharding.Mesh) -> None:
    """Place the parameters on the mesh by `RULES`."""

    def placed(path: tuple, parameter: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = next((spec for rule, spec in RULES.items() if re.search(rule, name)), P())
        return jax.device_put(parameter, NamedSharding(mesh, spec))

    nnx.update(block, jax.tree_util.tree_map_with_path(placed, nnx.state(block, nnx.Param)))


@nnx.jit
def train_step(block: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, target: jax.Array) -> jax.Array:
    loss, gradients = nnx.value_and_grad(lambda block: jnp.mean((block(x) - target) ** 2))(block)
    optimizer.update(block, gradients)
    return loss


def losses(block: nnx.Module, x: jax.Array, target: jax.Array, steps: int = 5) -> list[float]:
    optimizer = nnx.Optimizer(block, optax.sgd(1e-1), wrt=nnx.Param)
    return [float(train_step(block, optimizer, x, target)) for _ in range(steps)]


def main() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
    x, target = jax.random.normal(jax.random.key(0), (2, BATCH, LENGTH, WIDTH))
    spread = jax.device_put((x, target), NamedSharding(mesh, P("data")))

    alone = losses(PrimerEZBlock(WIDTH, HEADS, rngs=nnx.Rngs(0)), x, target)
    with jax.set_mesh(mesh):
        sharding = Sharding(heads="model", mlp="model")
        block = nnx.jit(lambda: PrimerEZBlock(WIDTH, HEADS, sharding=sharding, rngs=nnx.Rngs(0)))()
        together = losses(block, *spread)
    report("hand-written", block.feed_forward.hidden.kernel[...], alone, together)

    alone = losses(ExportedBlock(WIDTH, HEADS, rngs=nnx.Rngs(0)), x, target)
    block = ExportedBlock(WIDTH, HEADS, rngs=nnx.Rngs(0))
    place(block, mesh)
    together = losses(block, *spread)
    report("exported", block.feed_forward.up.kernel[...], alone, together)


def report(name: str, kernel: jax.Array, alone: list[float], together: list[float]) -> None:
    difference = max(abs(a - b) for a, b in zip(alone, together, strict=True))
    print(f"{name}: each device has {kernel.sharding.shard_shape(kernel.shape)} of a kernel of shape {kernel.shape}")
    print(f"{name}: loss {together[0]:.5f} to {together[-1]:.5f}, at most {difference:.0e} from one device's")


if __name__ == "__main__":
    main()
