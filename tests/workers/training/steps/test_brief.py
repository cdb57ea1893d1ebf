"""Brief trainings are compiled layer by layer, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from primer_search.configs.load import load
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.workers.config import OptimizerConfig, TrialConfig
from primer_search.workers.training.steps.brief import MOST_FLAT, is_brief
from primer_search.workers.training.steps.flat_model import FlatModel, training_model

CONFIG = ModelConfig(layers=3, unit=1, length=16, vocabulary=300)
OPTIMIZER = OptimizerConfig()


@pytest.mark.parametrize(
    ("brief", "model", "trial", "optimizer"),
    [
        (True, {}, {}, {}),
        (False, {"stack": "unroll"}, {}, {}),
        (False, {}, {"unit": "cpu_seconds"}, {}),
        (False, {}, {"devices": 2}, {}),
        (False, {}, {}, {"name": "adafactor"}),
        (False, {"vocabulary": MOST_FLAT // CONFIG.width}, {}, {}),
        (False, {}, {"budget_steps": 10**8}, {}),
    ],
)
def test_brief_trainings_are_short_and_of_small_models_on_one_cpu(
    brief: bool, model: dict[str, Any], trial: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    steps = TrialConfig(unit="steps", budget_steps=100, batch=4)
    assert is_brief(replace(CONFIG, **model), replace(steps, **trial), replace(OPTIMIZER, **optimizer), "cpu") is brief


def test_the_trials_of_laptop_are_brief_and_longer_ones_are_not() -> None:
    config = load("laptop")
    assert is_brief(config.model, config.trial, config.optimizer, "cpu")
    assert not is_brief(config.model, config.trial, config.optimizer, "gpu")
    longer = replace(config.trial, budget_steps=4 * config.trial.budget_steps)
    assert not is_brief(config.model, longer, config.optimizer, "cpu")


def test_a_brief_training_is_of_a_flat_model_whatever_the_size_of_the_candidate() -> None:
    config = replace(CONFIG, unit=16, vocabulary=8192)
    model = language_model(build_graph(library.get("TRANSFORMER", 16)), config)
    assert training_model(model, OPTIMIZER) is model
    assert isinstance(training_model(model, OPTIMIZER, brief=True), FlatModel)
