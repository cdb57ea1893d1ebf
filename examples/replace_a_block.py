"""Exported block in an existing model: Hugging Face's Flax GPT-2 with Primer-EZ blocks trains and generates text.

`exported_primer_ez_linen.py` is the unedited output of `primer-search export PRIMER_EZ --api linen`. GPT-2 calls its
blocks with more arguments than `x`, and expects a tuple. The adapter below accepts these arguments and returns a tuple.
GPT-2's cache contains the block's cache, so `generate` decodes step by step as usual.

    pip install 'transformers>=4.57,<5'          # the last versions with models in Flax; without PyTorch
    python examples/replace_a_block.py
"""

import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from exported_primer_ez_linen import PrimerEZBlock
from flax import linen as nn
from transformers import GPT2Config
from transformers.models.gpt2 import modeling_flax_gpt2 as gpt2


class BlockInGPT2(nn.Module):
    """Exported block with the interface of `FlaxGPT2Block`; it takes no mask, so texts must not be padded."""

    config: GPT2Config
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, attention_mask: jax.Array, *, init_cache: bool, **unused: object) -> tuple:
        decode = init_cache or self.has_variable("cache", "block")
        block = PrimerEZBlock(self.config.n_embd, self.config.n_head, dtype=self.dtype, name="block")
        return (block(x, decode=decode),)


def main(steps: int = 100, batch: int = 8, length: int = 65) -> None:
    text = np.frombuffer(Path(inspect.__file__).read_bytes(), np.uint8).astype(np.int32)
    rows = text[: len(text) // length * length].reshape(-1, length)

    gpt2.FlaxGPT2Block = BlockInGPT2  # GPT-2 has no argument for the class of its blocks
    config = GPT2Config(vocab_size=256, n_positions=length, n_embd=64, n_layer=2, n_head=4, initializer_range=0.125)
    model: Any = gpt2.FlaxGPT2LMHeadModel(config, seed=0, input_shape=(1, length))
    print("parameters of a layer:", sorted(model.params["transformer"]["h"]["0"]["block"]))

    def loss_of(params: dict, tokens: jax.Array) -> jax.Array:
        logits = model(tokens[:, :-1], params=params).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @jax.jit
    def train_step(params: dict, state: optax.OptState, tokens: jax.Array) -> tuple:
        loss, gradients = jax.value_and_grad(loss_of)(params, tokens)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    optimizer = optax.adam(3e-3)
    params, state = model.params, optimizer.init(model.params)
    for step, tokens in enumerate(np.random.default_rng(0).choice(rows, (steps + 1, batch))):
        params, state, loss = train_step(params, state, tokens)
        if step % 20 == 0:
            print(f"step {step:3}  loss {loss:.3f}")

    prompt = np.frombuffer(b"    def __init__(self", np.uint8).astype(np.int32)[None]
    written = model.generate(prompt, params=params, max_length=length, do_sample=False, pad_token_id=0).sequences
    print(bytes(written[0].astype(np.uint8)))


if __name__ == "__main__":
    main()
