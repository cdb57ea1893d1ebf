"""Presets, `--set`, durations: what they accept, and the one sentence they refuse with."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import primer_search
from primer_search.configs import dump, format_duration, load, loads, parse_duration, preset_names
from primer_search.configs.plan import make_plan
from primer_search.primitives.errors import UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.cost import block_cost, model_parameters
from primer_search.primitives.programs import library
from primer_search.search.config import RunConfig
from primer_search.workers.devices.discovery import VisibleDevices

PRESETS = Path(primer_search.__file__).parent / "configs"


def refusal(preset: str, *overrides: str) -> str:
    """The sentence that refuses this configuration."""
    with pytest.raises(UsageError) as refused:
        load(preset, overrides)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert refused.value.exit_code == 2
    return sentence


class TestPresets:
    def test_all_five_are_there(self) -> None:
        assert preset_names() == ("gpu", "laptop", "primer_paper", "smoke", "tpu")

    @pytest.mark.parametrize("name", preset_names())
    def test_each_loads_and_survives_the_round_trip_through_toml(self, name: str) -> None:
        config = load(name)
        assert loads(dump(config), "the dump") == config

    @pytest.mark.parametrize("name", preset_names())
    def test_each_says_its_hardware_duration_expectation_and_command(self, name: str) -> None:
        text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
        assert text.startswith(f"# {name}: ")
        assert f"primer-search --config {name} " in text
        assert all(f"# {word} " in text for word in ("Hardware", "Duration", "Expect"))

    def test_laptop_trains_two_layers_of_width_64_and_prices_steps(self) -> None:
        config = load("laptop")
        assert (config.model.layers, config.model.width) == (2, 64)
        assert (config.trial.unit, config.trial.price, config.workers.accel) == ("steps", True, "cpu")
        assert config.search.strategy == "guided"
        assert (config.search.population, config.search.tournament) == (20, 5)
        assert config.data.source == "python-stdlib"

    def test_primer_paper_has_the_settings_of_the_paper(self) -> None:
        config = load("primer_paper")
        assert (config.model.layers, config.model.width, config.model.length) == (6, 512, 64)
        assert config.model.vocabulary == 32_768
        assert config.trial.batch * config.model.length == 4_096
        assert (config.trial.unit, config.trial.budget, config.trial.hurdles) == ("wall_seconds", 25_200.0, 4)
        assert (config.search.population, config.search.tournament) == (100, 10)
        optimizer = config.optimizer
        assert (optimizer.name, optimizer.learning_rate, optimizer.warmup_steps) == ("adafactor", 0.01, 10_000)
        assert (optimizer.schedule, optimizer.weight_decay) == ("rsqrt", 0.0)

    def test_primer_paper_holds_the_baseline_and_its_children_to_the_papers_size(self) -> None:
        model = load("primer_paper").model
        block = block_cost(build_graph(library.get("TRANSFORMER", model.unit)), model.unit, model.length).parameters
        parameters = model_parameters(block, model.unit, model.layers, model.vocabulary)
        assert 35_000_000 < parameters < 36_000_000
        assert model.parameter_range == (32_000_000, 38_000_000)
        assert load("laptop").model.parameter_range == ()

    def test_the_range_of_parameters_survives_files_and_stores_and_can_be_switched_off(self) -> None:
        config = load("primer_paper")
        assert loads(dump(config), "mine") == config
        stored = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert stored == config and hash(stored.model) == hash(config.model)
        assert load("primer_paper", ["model.parameter_range=[]"]).model.parameter_range == ()
        assert "must be a list" in refusal("smoke", "model.parameter_range=3")

    def test_smoke_counts_steps_and_trains_inline(self) -> None:
        config = load("smoke")
        assert (config.trial.unit, config.workers.executor) == ("steps", "inline")


class TestFiles:
    def test_a_file_keeps_defaults_for_what_it_leaves_out(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('[trial]\nbudget_seconds = "2m"\n', encoding="utf-8")
        default = RunConfig()
        trial = dataclasses.replace(default.trial, budget_seconds=120.0)
        assert load(str(file)) == dataclasses.replace(default, trial=trial)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "absent.toml"
        assert refusal(str(file)) == f"cannot read the configuration {str(file)!r}: No such file or directory"

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        assert "Is a directory" in refusal(str(tmp_path))

    @pytest.mark.parametrize("content", [b"[model", b"\xff\xfe", b"x = " + b"[" * 5_000, b"x = " + b"9" * 5_000])
    def test_what_is_no_toml_is_refused(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "broken.toml"
        file.write_bytes(content)
        assert f"{file} is not valid TOML: " in refusal(str(file))

    @pytest.mark.parametrize("content", ["model = 3", "[[model]]\nlayers = 1"])
    def test_a_section_that_is_no_table_is_refused(self, content: str) -> None:
        with pytest.raises(UsageError, match=r"model \(in mine\) must be a section of settings: write \[model\]"):
            loads(content, "mine")

    def test_a_misspelt_section_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"section 'modle' \(in mine\); did you mean model\?"):
            loads("[modle]\nlayers = 1", "mine")


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("model.layers=3", 3),
            ("model.precision=bfloat16", "bfloat16"),
            ('model.precision="bfloat16"', "bfloat16"),
            ("model.length_dependent=true", True),
            ("optimizer.learning_rate=1", 1.0),
            ("optimizer.learning_rate=1e-4", 1e-4),
            ("data.source=text:notes/a=b.txt", "text:notes/a=b.txt"),
            ("data.source=C\nmodel.layers=9", "C\nmodel.layers=9"),
            (" trial.budget_seconds = 1m 30s", 90.0),
            ("trial.budget_seconds=45", 45.0),
        ],
    )
    def test_values_are_toml_or_bare_words_or_durations(self, override: str, expected: object) -> None:
        section, key = override.partition("=")[0].strip().split(".")
        value = getattr(getattr(load("laptop", [override]), section), key)
        assert (value, type(value)) == (expected, type(expected))

    def test_the_last_override_of_a_key_wins(self) -> None:
        assert load("laptop", ["trial.batch=3", "trial.batch=5"]).trial.batch == 5

    def test_overrides_change_nothing_else(self) -> None:
        changed = load("laptop", ["trial.batch=3"])
        assert dataclasses.replace(changed, trial=load("laptop").trial) == load("laptop")

    @pytest.mark.parametrize(
        "text", ["", "layers", "layers=3", "model.layers", "model.layers=", ".a=1", "a.b.c=1", "=1"]
    )
    def test_another_form_is_refused(self, text: str) -> None:
        assert refusal("laptop", text).startswith(f"--set {text!r} must read section.key=value")


class TestRefusals:
    """Each sentence says what, where, and how to fix it."""

    @pytest.mark.parametrize(
        ("preset", "override", "sentence"),
        [
            ("latpop", None, "unknown preset 'latpop'; did you mean laptop? (presets: gpu, laptop, primer_paper, "),
            ("zzz", None, "unknown preset 'zzz' (presets: gpu, laptop, primer_paper, smoke, tpu; or give the path"),
            ("laptop", "modle.layers=3", "unknown section 'modle' (from --set); did you mean model?"),
            ("laptop", "zzz.layers=3", "unknown section 'zzz' (from --set); known are model, trial, "),
            ("laptop", "model.layrs=3", "unknown setting model.layrs (from --set); did you mean model.layers?"),
            ("laptop", "model.batch=3", "unknown setting model.batch (from --set); did you mean trial.batch?"),
            ("laptop", "model.zzz=3", "unknown setting model.zzz (from --set); model has layers, unit, heads, "),
            ("laptop", "trial.hurdles=11", "trial.hurdles = 11 (from --set) must be at most 10"),
            ("laptop", "model.layers=0", "model.layers = 0 (from --set) must be at least 1"),
            ("laptop", "model.unit=1000000000", "model.unit = 1000000000 (from --set) must be at most 1024"),
            ("laptop", "model.layers=2.0", "model.layers = 2.0 (from --set) must be a whole number"),
            ("laptop", "model.layers=true", "model.layers = true (from --set) must be a whole number"),
            ("laptop", "model.layers='3'", 'model.layers = "3" (from --set) must be a whole number'),
            ("laptop", "model.layers=1979-05-27", 'model.layers = "1979-05-27" (from --set) must be a whole number'),
            (
                "laptop",
                "optimizer.learning_rate=fast",
                'optimizer.learning_rate = "fast" (from --set) must be a number',
            ),
            (
                "laptop",
                "optimizer.learning_rate=nan",
                "optimizer.learning_rate = NaN (from --set) must be a finite numb",
            ),
            ("laptop", "model.length_dependent=1", "model.length_dependent = 1 (from --set) must be true or false"),
            ("laptop", "data.source=1", "data.source = 1 (from --set) must be text in quotes"),
            (
                "laptop",
                "model.precision=half",
                "model.precision = \"half\" (from --set) must be 'float32' or 'bfloat16'",
            ),
            ("laptop", "trial.budget_seconds=0", "trial.budget_seconds = 0 (from --set) must be greater than 0"),
            (
                "laptop",
                "trial.budget_seconds=3x",
                "trial.budget_seconds: '3x' is not a duration: write a number and a unit",
            ),
            ("laptop", "data.source=\udcff", "the settings of laptop are not plain text and numbers: "),
        ],
    )
    def test_settings_out_of_bounds_or_unknown(self, preset: str, override: str | None, sentence: str) -> None:
        assert refusal(preset, *([override] if override else [])).startswith(sentence)

    @pytest.mark.parametrize(
        ("preset", "override", "sentence"),
        [
            ("laptop", "search.tournament=21", "search.tournament = 21 must be at most search.population = 20"),
            ("gpu", "search.strategy=guided", "search.strategy = guided needs a budget in steps"),
            ("gpu", "trial.price=true", "trial.price has no effect with trial.unit = "),
            ("laptop", "search.hurdle_minimum=101", "search.hurdle_minimum = 101 must be at most search.hurdle_window"),
            (
                "smoke",
                "trial.budget_steps=6",
                "trial.budget_steps = 6 is too short for trial.hurdles = 2: use at least 7",
            ),
            (
                "gpu",
                "trial.unit=cpu_seconds",
                "trial.unit = cpu_seconds does not measure the work of workers.accel = gpu",
            ),
            ("smoke", "workers.count=2", "workers.count = 2 needs workers.executor = ray"),
            (
                "primer_paper",
                "optimizer.weight_decay=0.1",
                "optimizer.weight_decay = 0.1 has no effect with optimizer.name",
            ),
            (
                "primer_paper",
                "model.unit=8",
                "model.parameter_range = [32000000, 38000000] must hold the baseline TRANSFORMER, which has 2,395,648",
            ),
            ("smoke", "model.parameter_range=[2, 1]", "model.parameter_range = [2, 1] must be the smallest and the"),
            ("smoke", "model.parameter_range=[1]", "model.parameter_range = [1] must be the smallest and the largest"),
        ],
    )
    def test_settings_at_odds_with_each_other(self, preset: str, override: str, sentence: str) -> None:
        message = refusal(preset, override)
        assert message.startswith(sentence)
        assert message.endswith(f"(in {preset} and --set)")

    def test_cpu_time_is_refused_where_auto_finds_an_accelerator(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = VisibleDevices("gpu", ("NVIDIA H100",))
        monkeypatch.setattr("primer_search.workers.devices.discovery.visible_devices", lambda: seen)
        file = tmp_path / "mine.toml"
        file.write_text('[trial]\nunit = "cpu_seconds"\n', encoding="utf-8")
        with pytest.raises(UsageError, match=r"cpu_seconds does not measure the work of workers\.accel = gpu"):
            make_plan(budget="10m", config=str(file))

    def test_a_long_value_is_cut_short(self) -> None:
        assert len(refusal("laptop", f"model.layers={'9' * 4_000}")) < 120


class TestDump:
    @given(source=st.text(st.characters(codec="utf-8")), rate=st.floats(1e-300, 10.0), steps=st.integers(1, 2**62))
    def test_any_valid_values_survive_the_round_trip(self, source: str, rate: float, steps: int) -> None:
        default = RunConfig()
        config = dataclasses.replace(
            default,
            data=dataclasses.replace(default.data, source=source),
            optimizer=dataclasses.replace(default.optimizer, learning_rate=rate),
            trial=dataclasses.replace(default.trial, budget_steps=steps),
        )
        assert loads(dump(config), "the dump") == config

    def test_every_setting_is_spelt_out(self) -> None:
        assert tomllib.loads(dump(RunConfig())) == json.loads(json.dumps(dataclasses.asdict(RunConfig())))


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90s", 90),
            ("10m", 600),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1.5h", 5_400),
            ("9m 58s", 598),
            ("1h30m", 5_400),
        ],
    )
    def test_durations_read_as_people_write_them(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize(
        "text",
        ["", "90", "s", "-5m", "1e3s", "10 minutes", "10M", "5m1h", "1m1m", "٣s", "0s", "9999d", "nan", "1" * 5_000],
    )
    def test_what_is_no_duration_is_refused_with_the_form_to_write(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"write a number and a unit: 90s, 10m, 24h or 7d$"):
            parse_duration(text)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (2.5, "2.5s"), (9.99, "10s"), (59.6, "1m"), (598.2, "9m 58s"), (3_605, "1h"), (90_061, "1d 1h")],
    )
    def test_durations_print_in_their_two_largest_units(self, seconds: float, text: str) -> None:
        assert format_duration(seconds) == text

    @given(st.floats(0.1, 3e8))
    def test_what_is_printed_reads_back_within_the_precision_shown(self, seconds: float) -> None:
        unit = next(size for size in (86_400, 3_600, 60, 1) if seconds >= size or size == 1)
        shown = {86_400: 3_600, 3_600: 60, 60: 1, 1: 1}[unit]
        assert abs(parse_duration(format_duration(seconds)) - seconds) <= shown
