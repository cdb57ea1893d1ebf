"""A trial on eight devices of the host gives the results of one device, except for rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.configs import load
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs.library import LIBRARY
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, MODEL, TRIAL, tiny_dataset
from primer_search.workers.training.trial import CandidateTrainer

GRADIENTS = """
import json, sys

import jax, jax.numpy as jnp, numpy as np, optax
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search import library
from primer_search.primitives import build_graph
from primer_search.workers.config import TrialConfig
from primer_search.workers.training.steps.data_parallel import data_mesh
from primer_search.workers.training.steps.train_state import TrainState
from primer_search.workers.training.steps.train_step import StepFunctions

config = ModelConfig(layers=1, unit=2, length=8, vocabulary=300, length_dependent=True)
model = language_model(build_graph(library.get(sys.argv[1], 2), length_dependent=True), config)
parameters = model.init(np.random.default_rng(0))
tokens = np.random.default_rng(1).integers(0, 300, (8, 9)).astype(np.int32)
# The state of this optimizer is the gradient. A difference of parameters would have lost digits.
optimizer = optax.GradientTransformation(
    lambda parameters: jax.tree.map(jnp.zeros_like, parameters), lambda gradients, _, parameters: (gradients, gradients)
)
found = {}
for devices in (1, 8):
    state = TrainState(jax.tree.map(np.array, parameters), optimizer.init(parameters))
    functions = StepFunctions(model, optimizer, 8, mesh=data_mesh(TrialConfig(batch=8, devices=devices)))
    functions.compile_step(state)
    batch = functions.put(tokens)
    state, result = functions.step(functions.place(state), batch)
    shares = {shard.data.shape for shard in result.token_losses.addressable_shards}
    whole = all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.parameters))
    found[devices] = {"gradients": jax.tree.leaves(jax.device_get(state.optimizer)), "whole": whole,
        "norm": float(result.gradient_norm), "losses": np.asarray(result.token_losses),
        "probe_logits": np.asarray(result.probe_logits), "shares": sorted(shares)}
one, eight = found[1], found[8]
for single, spread in zip(one["gradients"], eight["gradients"], strict=True):
    assert np.abs(single).max() > 0
    np.testing.assert_allclose(spread, single, rtol=0, atol=2e-5 * np.abs(single).max())
for name in ("losses", "probe_logits", "norm"):
    np.testing.assert_allclose(eight[name], one[name], rtol=1e-5, atol=1e-5)
print(json.dumps([one["shares"], eight["shares"], eight["whole"]]))
"""

TRIALS = """
import json, sys
from dataclasses import replace
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, CONSTANTS, MODEL, TRIAL
from primer_search.workers.protocol import TrialRequest
from primer_search.workers.training.trial import CandidateTrainer

LEAK = assemble(
    {"main": "scores = T_MAT_MUL h0 h0\\ntotal = RED_SUM scores\\nbent = TANH h0\\n"
     "a = MULTIPLY bent total\\nb = ADD a h0"}, CONSTANTS, (8, 16)
)
optimizer = replace(CONFIG.optimizer, averaging=8.0)
found = {}
for devices in (1, 8):
    trial = replace(TRIAL, batch=8, devices=devices)
    trainer = CandidateTrainer(MODEL, trial, optimizer, sys.argv[1])
    request = TrialRequest(0, 0, dna_to_json(BASELINE), 5, test=True)
    found[devices] = trainer.run(request, lambda progress: None).to_dict()
refused = trainer.run(TrialRequest(1, 1, dna_to_json(LEAK), 5), lambda progress: None).outcome
clocked = replace(trial, unit="reference_seconds", budget_seconds=0.1)
trainer = CandidateTrainer(MODEL, clocked, optimizer, sys.argv[1], dna_to_json(BASELINE))
request = TrialRequest(0, 0, dna_to_json(BASELINE), 5, allowance_seconds=0.02)
timed = trainer.run(request, lambda progress: None).to_dict()
print(json.dumps([found[1], found[8], refused, timed]))
"""


def on_eight_devices(script: str, *arguments: str) -> Any:
    """Run a script in a process with eight CPU devices, and return its last line of output as JSON."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    prelude = "import warnings\nwarnings.simplefilter('error')\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + script, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "program",
    [name if name == "PRIMER" else pytest.param(name, marks=pytest.mark.slow) for name in LIBRARY],
)
def test_gradients_losses_and_probe_logits_of_eight_devices_are_those_of_one(program: str) -> None:
    one, eight, whole = on_eight_devices(GRADIENTS, program)
    assert one == [[8, 8]]
    assert eight == [[1, 8]], "each device computes on its own sequence"
    assert whole, "every device has all of the parameters"


@pytest.mark.slow
def test_a_trial_on_eight_devices_ends_where_one_device_ends(tmp_path: Path) -> None:
    one, eight, refused, timed = on_eight_devices(TRIALS, str(tiny_dataset(tmp_path)))
    assert (one["outcome"], eight["outcome"], timed["outcome"]) == ("ok", "ok", "ok"), (one, eight, timed)
    for name in ("loss_nats", "test_loss_nats"):
        assert eight[name] == pytest.approx(one[name], abs=1e-4)
    assert [point[2] for point in eight["curve"]] == pytest.approx([point[2] for point in one["curve"]], abs=1e-4)
    assert (eight["steps"], eight["tokens"]) == (one["steps"], one["tokens"])
    assert eight["moved_logits"] == pytest.approx(0.0, abs=2e-6)
    assert eight["device"] == f"8 x {one['device']}"
    assert refused == "rejected:causality"
    assert timed["relative_step"] > 0


def test_missing_devices_are_refused_before_anything_trains(tmp_path: Path) -> None:
    trial = replace(TRIAL, batch=999, devices=999)
    with pytest.raises(UsageError, match=r"trial\.devices is 999.* worker sees \d+ CPU devices?.* set trial\.dev"):
        CandidateTrainer(MODEL, trial, CONFIG.optimizer, str(tmp_path), dna_to_json(BASELINE))


def test_a_batch_that_does_not_divide_among_the_devices_is_refused() -> None:
    sentence = r"trial\.batch = 12 .*trial\.devices = 8: use a multiple of 8"
    with pytest.raises(UsageError, match=sentence):
        load("smoke", ["trial.batch=12", "trial.devices=8"])
    with pytest.raises(UsageError, match=sentence):
        CandidateTrainer(MODEL, replace(TRIAL, batch=12, devices=8), CONFIG.optimizer, "nowhere")
