"""Language model in Flax NNX: a stack of Primer-EZ blocks under `nnx.scan`, trained with optax.

The parameters of all layers are stacked on a leading axis, so that the block is compiled once for any depth. The text
is a module of Python's standard library; its bytes are the tokens.

    python examples/nnx_scan_stack.py
"""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from primer_search.models import PrimerEZBlock


class Decoder(nnx.Module):
    """Next-token logits: `[batch, length]` to `[batch, length, 256]`."""

    def __init__(self, width: int, heads: int, layers: int, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(256, width, rngs=rngs)
        make = nnx.vmap(lambda rngs: PrimerEZBlock(width, heads, rngs=rngs))
        self.blocks = make(rngs.split(layers))
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        positions = jnp.arange(tokens.shape[1])
        forward = nnx.scan(lambda x, block: block(x, positions=positions), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.embedding.attend(self.norm(forward(self.embedding(tokens), self.blocks)))


def loss_of(model: Decoder, tokens: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(tokens[:, :-1]), tokens[:, 1:]).mean()


@nnx.jit
def train_step(model: Decoder, optimizer: nnx.Optimizer, tokens: jax.Array) -> jax.Array:
    loss, gradients = nnx.value_and_grad(loss_of)(model, tokens)
    optimizer.update(model, gradients)
    return loss


def main(steps: int = 100, batch: int = 8, length: int = 65) -> None:
    text = np.frombuffer(Path(inspect.__file__).read_bytes(), np.uint8).astype(np.int32)
    rows = text[: len(text) // length * length].reshape(-1, length)
    model = Decoder(width=64, heads=4, layers=3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    for step, tokens in enumerate(np.random.default_rng(0).choice(rows, (steps + 1, batch))):
        loss = train_step(model, optimizer, tokens)
        if step % 20 == 0:
            print(f"step {step:3}  loss {loss:.3f}")


if __name__ == "__main__":
    main()
