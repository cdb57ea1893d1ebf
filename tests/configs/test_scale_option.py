"""What `confirm --scale` reads: a run's settings with a few of them changed."""

from __future__ import annotations

import pytest

from primer_search.configs.scale_option import parse_scales
from primer_search.primitives.errors import UsageError
from primer_search.search.config import RunConfig
from primer_search.search.results.scale_ladder import Scale
from primer_search.tests.support.tiny_runs import CONFIG


def test_a_scale_is_the_runs_settings_with_a_few_changed() -> None:
    first, second = parse_scales(
        ["layers=4, unit=16, budget=1m 30s", "length=256,batch=8,learning_rate=1e-3"], RunConfig()
    )
    assert (first.model.layers, first.model.unit, first.trial.budget) == (4, 16, 90.0)
    assert (second.model.length, second.trial.batch, second.optimizer.learning_rate) == (256, 8, 1e-3)
    assert second.model.layers == RunConfig().model.layers
    assert parse_scales(["budget=40"], CONFIG)[0].trial.budget == 40


def test_scales_that_differ_in_devices_alone_are_two() -> None:
    scales = parse_scales(["layers=4", "layers=4,devices=2"], RunConfig())
    assert [scale.trial.devices for scale in scales] == [1, 2]
    assert [Scale.of(scale).label for scale in scales] == [
        "4 layers of width 64, 30 s",
        "4 layers of width 64, 30 s on 2 devices",
    ]
    stored = {key: value for key, value in Scale.of(scales[0]).to_dict().items() if key != "devices"}
    assert Scale(**stored) == Scale.of(scales[0]), "runs of earlier versions name no devices"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["layers"], "must read key=value,..., for example layers=4,unit=16,budget=60s"),
        (["layer=4"], "--scale layer=4: 'layer' is not one of layers, unit, .*; did you mean layers"),
        (["layers=4,layers=5"], "layers is given twice"),
        (["layers=0"], r"--scale layers=0: model.layers = 0 must be at least 1$"),
        (["unit=big"], "--scale unit=big: model.unit = .*big.* must be a whole number"),
        (
            ["batch=6,devices=4"],
            "--scale batch=6,devices=4: trial.batch = 6 sequences cannot be divided equally .*, or fewer devices$",
        ),
        (["budget=soon"], "--scale budget=soon: budget: 'soon' is not a duration"),
        (["layers=2"], "the size of the run"),
        (["layers=4", "layers=4,unit=8"], "another --scale has the same settings"),
    ],
)
def test_a_scale_that_is_none_is_refused_in_a_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_scales(texts, RunConfig())


def test_a_run_that_counts_steps_takes_a_budget_in_steps() -> None:
    with pytest.raises(UsageError, match="counts steps: write budget=N"):
        parse_scales(["budget=60s"], CONFIG)
