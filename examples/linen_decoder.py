"""Decoder in Flax Linen: Primer-EZ blocks under `nn.remat` in `nn.scan`, trained, then sampled with a cache.

`nn.remat` recomputes a layer's activations in the backward pass. `nn.scan` compiles one layer, applies it as often as
there are layers, and stacks the layers' parameters and caches on a leading axis.

    python examples/linen_decoder.py
"""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from primer_search.models.linen import PrimerEZBlock

Tree = Any
"""Arrays in nested dicts."""

LAYERS, WIDTH, HEADS, LENGTH = 3, 64, 4, 64


class Layer(nn.Module):
    """Block for `nn.scan`: it maps the carry to the next carry and has no other output."""

    decode: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return PrimerEZBlock(HEADS, name="block")(x, decode=self.decode), None


class Decoder(nn.Module):
    """Next-token logits: `[batch, length]` to `[batch, length, 256]`; with `decode`, tokens follow the cached ones."""

    decode: bool = False

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embedding = nn.Embed(256, WIDTH, name="embedding")
        layers = nn.scan(
            nn.remat(Layer, prevent_cse=False),  # in a scan, XLA cannot merge the recomputation with the original
            variable_axes={"params": 0, "cache": 0},
            split_rngs={"params": True},
            length=LAYERS,
        )
        x, _ = layers(self.decode, name="layers")(embedding(tokens), None)
        return embedding.attend(nn.LayerNorm(name="norm")(x))


def loss_of(params: Tree, tokens: jax.Array) -> jax.Array:
    logits: Any = Decoder().apply({"params": params}, tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


@partial(jax.jit, static_argnames="optimizer")
def train_step(
    params: Tree, state: optax.OptState, tokens: jax.Array, optimizer: optax.GradientTransformation
) -> tuple[Tree, optax.OptState, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(params, tokens)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, loss


@jax.jit
def sample_next(variables: Tree, tokens: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
    """Return a token sampled after the new `tokens`, and the variables with the updated cache."""
    logits, changed = Decoder(decode=True).apply(variables, tokens, mutable=["cache"])
    return jax.random.categorical(key, logits[:, -1:]), {**variables, **changed}


def write(params: Tree, prompt: bytes) -> bytes:
    longest = jnp.zeros((1, LENGTH), jnp.int32)
    cache = jax.jit(lambda: Decoder(decode=True).init(jax.random.key(0), longest)["cache"])()
    variables, token = {"params": params, "cache": cache}, jnp.asarray([list(prompt)])
    text = prompt
    for key in jax.random.split(jax.random.key(1), LENGTH - len(prompt)):
        token, variables = sample_next(variables, token, key)
        text += bytes([int(token[0, 0])])
    return text


def main(steps: int = 100, batch: int = 8) -> None:
    text = np.frombuffer(Path(inspect.__file__).read_bytes(), np.uint8).astype(np.int32)
    rows = text[: len(text) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    params = jax.jit(Decoder().init)(jax.random.key(0), rows[:1])["params"]
    optimizer = optax.adam(3e-3)
    state = optimizer.init(params)
    for step, tokens in enumerate(np.random.default_rng(0).choice(rows, (steps + 1, batch))):
        params, state, loss = train_step(params, state, tokens, optimizer)
        if step % 20 == 0:
            print(f"step {step:3}  loss {loss:.3f}")
    print(write(params, b"    def __init__(self"))


if __name__ == "__main__":
    main()
