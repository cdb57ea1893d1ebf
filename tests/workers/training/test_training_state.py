"""States of a training on disk: read back exactly, never half written, never of another training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.models.language_model import language_model
from primer_search.primitives import UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.tests.support.tiny_runs import BASELINE, MODEL
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.flat_model import training_model
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_state import TrainState
from primer_search.workers.training.steps.train_step import StepFunctions
from primer_search.workers.training.training_state import TrainingStates


def trained_state(optimizer: OptimizerConfig, seed: int = 0, rate: float | None = None) -> TrainState:
    """Return the state of a tiny model after a step."""
    model = training_model(language_model(build_graph(BASELINE), MODEL), optimizer)
    functions = StepFunctions(model, make_optimizer(optimizer), 4, optimizer.averaging)
    first = functions.initial_state(model.init(np.random.default_rng(seed)))
    state = TrainState(
        first.parameters, first.optimizer, first.average, None if rate is None else np.asarray(rate, np.float32)
    )
    functions.compile_step(state)
    tokens = np.random.default_rng(1).integers(0, 300, (4, 9)).astype(np.int32)
    return jax.device_get(functions.step(state, tokens)[0])


def leaves(state: TrainState) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def state() -> TrainState:
    return trained_state(OptimizerConfig(averaging=2.0), rate=0.5)


def progress(steps: int, **others: Any) -> dict[str, Any]:
    return {"steps": steps, **others}


@pytest.mark.parametrize(
    "optimizer", [OptimizerConfig(averaging=2.0), OptimizerConfig(name="adafactor"), OptimizerConfig()], ids=repr
)
def test_a_state_is_read_back_bit_for_bit(optimizer: OptimizerConfig, tmp_path: Path) -> None:
    saved, like = trained_state(optimizer, rate=0.25), trained_state(optimizer, seed=3, rate=1.0)
    states = TrainingStates(tmp_path)
    assert states.load(like) is None
    states.save(saved, progress(7, loss=1.5, curve=[[7.0, 7, 1.5]]))
    found = states.load(like)
    assert found is not None
    assert found[1] == progress(7, loss=1.5, curve=[[7.0, 7, 1.5]])
    for one, other in zip(leaves(found[0]), leaves(saved), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_only_the_newest_state_is_kept(state: TrainState, tmp_path: Path) -> None:
    states = TrainingStates(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    for steps in (9, 10, 100):
        states.save(state, progress(steps))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "state-000000100"]


def test_a_half_written_state_is_never_read(state: TrainState, tmp_path: Path) -> None:
    states = TrainingStates(tmp_path)
    states.save(state, progress(5))
    shutil.copytree(tmp_path / "state-000000005", tmp_path / ".state-000000009.ab")  # killed before it was renamed
    shutil.copytree(tmp_path / "state-000000005", tmp_path / "state-000000008")
    os.unlink(tmp_path / "state-000000008" / "state.json")
    found = states.load(state)
    assert found is not None
    assert found[1]["steps"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000005"]


def test_a_damaged_state_is_refused(state: TrainState, tmp_path: Path) -> None:
    states = TrainingStates(tmp_path)
    states.save(state, progress(5))
    data = max((tmp_path / "state-000000005" / "arrays").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(UsageError, match=r"is damaged.*has changed"):
        states.load(state)


def test_a_state_of_another_training_is_refused(state: TrainState, tmp_path: Path) -> None:
    states = TrainingStates(tmp_path)
    states.save(trained_state(OptimizerConfig(name="adafactor")), progress(5))
    with pytest.raises(UsageError, match="another training"):
        states.load(state)


def test_a_state_that_cannot_be_written_leaves_the_one_before(state: TrainState, tmp_path: Path) -> None:
    states = TrainingStates(tmp_path / "folder")
    with pytest.raises(UsageError, match="cannot save the state"):
        states.save(state, progress(5))
