"""The command from outside: what it refuses and how, what it plans, and what it tells without a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import primer_search
from primer_search.configs import load
from primer_search.configs.expected_candidates import expected_candidates
from primer_search.primitives import OPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.pretty_printer import format_program
from primer_search.tests.support.command import HandmadeRun, command, refused

PACKAGE = Path(primer_search.__file__).parent


# --- wrong usage ------------------------------------------------------------------------------------------------

WRONG_USAGE = {
    "an unknown preset": (["--config", "latpop"], "did you mean laptop?"),
    "a missing configuration file": (["--config", "none/of.toml"], "cannot read the configuration"),
    "a misspelt key": (["--set", "trial.bacth=3"], "did you mean trial.batch?"),
    "a misspelt section": (["--set", "trail.batch=3"], "did you mean trial?"),
    "a setting without a value": (["--set", "trial.batch"], "section.key=value"),
    "a setting out of bounds": (["--set", "trial.hurdles=99"], "at most 10"),
    "a duration without a unit": (["--budget", "10"], "--budget: '10' is not a duration"),
    "a duration of nothing": (["--budget", "0s"], "--budget: '0s'"),
    "a trial budget that is none": (["--trial-budget", "soon"], "--trial-budget: 'soon'"),
    "a time where steps count": (["--config", "smoke", "--trial-budget", "10s"], "such as 5000steps"),
    "steps where time counts": (["--config", "primer_paper", "--trial-budget", "50steps"], "such as 5m"),
    "a data path that is not there": (["--data", "text:no/such/text"], "no/such/text"),
    "a source that is none": (["--data", "wikipedia"], "python-stdlib"),
    "an accelerator that is none": (["--accel", "gpuu"], "did you mean gpu?"),
    "an unknown executor": (["--executor", "slurm"], "not one of 'ray', 'inline'"),
    "fewer workers than none": (["--workers", "-1"], "--workers"),
    "a baseline that is none": (["--set", "search.baseline=PRIMAR"], "did you mean PRIMER?"),
    "an initial program that does not exist": (["--init", "PRIMER_ES"], "did you mean PRIMER_EZ?"),
    "initial programs, one of which does not exist": (["--init", "PRIMER_EZ", "--init", "PRIMAR"], "--init PRIMAR"),
    "a random seed among programs": (["--config", "smoke", "--init", "3"], "use --seed 3"),
    "an initial program without a name": (["--init", ""], "is empty"),
    "a file without DNA": (["--init", "{full}/thesis.txt"], "is not DNA"),
    "a run instead of a candidate": (["--init", "{run}"], "such as {run}:best"),
    "a candidate of a missing run": (["--init", "no/such/run:3"], "no/such/run"),
    "a candidate that the run lacks": (["--init", "{run}:99"], "choose one from 0 to 1"),
    "an initial program tied to its length": (["--init", "PRIMER"], "--set model.length_dependent=true"),
    "an initial program over the cap": (
        ["--init", "PRIMER", "--set", "model.length_dependent=true", "--run-dir", "{folder}/r"],
        "--set model.parameter_cap",
    ),
    "more initial programs than individuals": (
        [
            "--set",
            "search.population=2",
            "--set",
            "search.tournament=2",
            "--init",
            "TRANSFORMER",
            "--init",
            "PRIMER_EZ",
            "--init",
            "TRANSFORMER_PP",
        ],
        "--set search.population=3",
    ),
    "initial programs for a search without parents": (
        ["--strategy", "random-init", "--init", "PRIMER_EZ"],
        "has no effect",
    ),
    "initial programs before a command": (["--init", "PRIMER_EZ", "resume", "run"], "--init before `resume`"),
    "a misspelt option": (["--budgt", "10m"], "did you mean --budget?"),
    "a misspelt command": (["leaderbord", "run"], "did you mean leaderboard?"),
    "an option without its value": (["--budget"], "--budget"),
    "a seed that is no number": (["--seed", "x"], "--seed"),
    "an option before a command": (["--budget", "2h", "resume", "run"], "write it after `resume`"),
    "a command without its run": (["leaderboard"], "RUN"),
    "a directory that is not a run": (["leaderboard", "{folder}"], "is not a run"),
    "a run that is not there": (["show", "no/such/run", "1"], "no/such/run"),
    "a report of no run": (["report", "{folder}"], "is not a run"),
    "an export of no run": (["export", "{folder}", "1"], "is not a run"),
    "a stop of no run": (["stop", "{folder}"], "is not a run"),
    "a resumption of no run": (["resume", "{folder}"], "is not a run"),
    "a run directory in use": (["--config", "smoke", "--run-dir", "{full}"], "is not empty"),
    "a candidate out of range": (["show", "{run}", "99"], "choose one from 0 to 1"),
    "a candidate that is no number": (["show", "{run}", "first"], "`best` or `baseline`"),
    "a candidate of twenty digits": (["export", "{run}", "9" * 20], "candidate"),
    "a difference to nothing": (["show", "{run}", "1", "--diff", "mother"], "--diff mother"),
    "a library program that is none": (["show", "PRIMERS"], "did you mean PRIMER?"),
    "an export of a program that is none": (["export", "PRIMERS"], "did you mean PRIMER?"),
    "an interface Flax does not have": (["export", "PRIMER", "--api", "haiku"], "'haiku' is not one of 'nnx', 'linen'"),
    "a DNA file that is not there": (["check", "none.json"], "none.json"),
    "a DNA that is a folder": (["check", "{folder}"], "cannot read"),
    "a vocabulary that is none": (["data", "prepare", "python-stdlib", "--vocabulary", "3"], "between 257 and"),
    "data that is not there": (["data", "prepare", "text:no/such/text"], "no/such/text"),
    "a DNA without a name": (["check", ""], "is empty"),
    "a program without end": (["check", "/dev/zero"], "is larger than"),
    "a report over the run itself": (["report", "{run}", "-o", "{run}/run.sqlite"], "choose another file with -o"),
    "a report in the place of a folder": (["report", "{run}", "-o", "."], "is a folder"),
    "a difference to a superscript": (
        ["show", "{run}", "1", "--diff", "\N{SUPERSCRIPT TWO}"],
        "a candidate's number",
    ),
    "a run without its candidate": (["show", "{run}"], "`best` or `baseline`"),
    "a command without its own": (["data"], "missing command"),
    "a budget that does not count": (["--config", "smoke", "--set", "trial.budget_seconds=3"], "has no effect"),
    "a batch of millions": (["--set", "trial.batch=99999999"], "at most 65536"),
    "an address without Ray": (
        ["--config", "smoke", "--address", "auto", "--run-dir", "{folder}/r"],
        "leave --address",
    ),
    "an address where nobody listens": (
        ["--address", "127.0.0.1:1", "--config", "smoke", "--executor", "ray", "--run-dir", "{folder}/r"],
        "no Ray cluster answers",
    ),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An empty folder, a full one, and a run of the baseline and one candidate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    HandmadeRun(tmp_path / "run").child("PRIMER_EZ", 2.5)
    return {name: tmp_path / name for name in ("folder", "full", "run")}


@pytest.mark.parametrize("mistake", WRONG_USAGE)
def test_wrong_usage_is_one_sentence(mistake: str, places: dict[str, Path]) -> None:
    arguments, hint = WRONG_USAGE[mistake]
    sentence = refused(*(argument.format(**places) for argument in arguments))
    assert hint.format(**places) in sentence
    assert not (places["folder"] / "r").exists()
    assert not Path("runs").exists(), "a refused search leaves no run behind"


def test_a_missing_tpu_is_named_with_what_is_there_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    sentence = refused("--accel", "tpu", "--dry-run")
    for part in ("JAX sees no TPU", "CPU", "--accel cpu", "jax[tpu]"):
        assert part in sentence


@pytest.mark.usefixtures("on_cpu")
def test_a_missing_gpu_of_a_preset_is_a_setting_and_no_option() -> None:
    assert "workers.accel = gpu (in gpu): JAX sees no GPU" in refused("--config", "gpu", "--dry-run")


def test_a_mistake_in_a_separate_process_exits_with_2() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "primer_search", "--config", "latpop"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_an_interruption_before_anything_began_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("primer_search.configs.plan.make_plan", interrupted)
    result = command("--budget", "10m")
    assert (result.code, result.err.strip(), result.out) == (130, "primer-search: interrupted", "")


def test_an_unforeseen_error_is_a_sentence_unless_asked_for_more(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr("primer_search.search.results.leaderboard.leaderboard", break_down)
    result = command("leaderboard", places["run"])
    assert result.code == 1
    assert result.err.startswith("primer-search: ZeroDivisionError: of all things")
    assert result.err.count("\n") == 1
    monkeypatch.setenv("PRIMER_SEARCH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        command("leaderboard", places["run"])


# --- what needs no run ------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    heavy = ("jax", "ray", "pydantic", "sqlite3", "plotly", "jinja2")
    loaded = f"print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
    code = f"import sys; from primer_search.cli.app import main; main(['--help']); {loaded}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "primer-search" in result.stdout
    assert result.stderr.split() == []


def test_the_version_is_told() -> None:
    assert command("--version").out.split()[0] == "primer-search"


def test_the_package_shows_dna_ops_and_library() -> None:
    from primer_search import DNA
    from primer_search.primitives import DNA as DEFINED

    assert DNA is DEFINED
    assert primer_search.OPS is OPS
    assert primer_search.library.PRIMER_EZ is library.PRIMER_EZ
    assert {"DNA", "OPS", "library"} <= set(dir(primer_search))
    with pytest.raises(AttributeError, match="block"):
        _ = primer_search.block


def test_primitives_lists_every_op_once() -> None:
    listed = [row["name"] for row in command("primitives", "--json").json["primitives"]]
    assert listed == list(OPS)
    assert len(command("primitives").out.splitlines()) == len(OPS)
    markdown = command("primitives", "--markdown").out.splitlines()
    assert len(markdown) == len(OPS) + 2
    assert {line.replace("\\|", "").count("|") for line in markdown} == {8}


def test_show_knows_the_library() -> None:
    shown = command("show", "PRIMER_EZ", "--diff", "TRANSFORMER", "--json").json
    assert shown["listing"] == format_program(library.get("PRIMER_EZ"))
    assert "+" in shown["difference"]
    assert "SQUARE" in command("show", "PRIMER_EZ").out


# --- plans ------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(tmp_path)


def plan(*arguments: str) -> dict[str, Any]:
    """What a dry run plans."""
    result = command("--dry-run", "--json", *arguments)
    assert result.code == 0, result
    return result.json


@pytest.mark.usefixtures("on_cpu")
def test_a_dry_run_plans_the_laptop_preset_on_a_cpu_and_makes_nothing() -> None:
    planned, trial = plan(), load("laptop").trial
    assert (planned["preset"], planned["budget_seconds"], planned["trial_budget"]) == ("laptop", 600.0, trial.budget)
    assert planned["hurdles"] == [200, 350, 500]
    expected = expected_candidates(load("laptop"), "cpu", planned["workers"], planned["search_seconds"])
    assert planned["candidates_expected"] == expected
    assert not list(Path.cwd().iterdir())
    lines = command("--dry-run").out
    assert f"trial budget  {trial.budget_steps} steps" in lines
    assert "if 55% stop early, as in the searches of docs/discovery.md" in lines


@pytest.mark.usefixtures("on_cpu")
def test_a_dry_run_warns_of_a_text_that_is_read_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    for number in range(20):
        words = " ".join(f"{number} times {factor} is {number * factor}." for factor in range(100))
        (tmp_path / "text" / f"{number}.txt").write_text(words)
    options = ("--config", "smoke", "--data", f"text:{tmp_path / 'text'}", "--set", "trial.budget_steps=9999")
    assert plan(*options)["notes"] == [], "the text is not prepared yet"
    assert command("data", "prepare", f"text:{tmp_path / 'text'}", "--config", "smoke", "--processes", "1").code == 0
    (note,) = plan(*options)["notes"]
    assert "a full trial reads it" in note and "losses measure memorisation" in note


PAPER = ("--strategy", "evolution", "--set", "trial.unit=reference_seconds", "--set", "trial.price=false")
"""Options of the paper's algorithm, whose budgets count seconds."""


@pytest.mark.usefixtures("on_cpu")
def test_a_short_budget_shrinks_the_trial_budget_and_says_so() -> None:
    assert "trial budget  20s of training, at the baseline's speed" in command("--dry-run", *PAPER).out
    result = command("--dry-run", "--json", "--budget", "1m", "--workers", "2", *PAPER)
    assert result.json["trial_budget"] == 60 / 12
    assert "the trial budget is 5s instead of 20s, so that 12 trials per worker fit" in result.err
    assert plan("--budget", "1m", "--workers", "8", *PAPER)["trial_budget"] == 60 / 8


@pytest.mark.usefixtures("on_cpu")
def test_a_trial_budget_that_was_asked_for_stays_while_it_fits() -> None:
    assert plan("--budget", "1m", "--config", "smoke", "--trial-budget", "7steps")["trial_budget"] == 7.0
    result = command("--dry-run", "--json", "--budget", "1m", "--trial-budget", "20s", *PAPER)
    assert result.json["trial_budget"] == 20.0
    assert "expect little" in result.err
    assert plan("--budget", "1m", "--trial-budget", "2s", *PAPER)["notes"] == []
    assert plan("--budget", "1m", "--trial-budget", "7m", "--workers", "2", *PAPER)["trial_budget"] == 60 / 12


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    "words",
    [
        ["--init", "PRIMER_EZ", "--init", "TRANSFORMER_PP"],
        ["--init=PRIMER_EZ", "--seed", "4", "--init=TRANSFORMER_PP"],
        ["--init", "PRIMER_EZ", "--run-dir", "resume", "--init", "TRANSFORMER_PP", "--init", "PRIMER_EZ"],
    ],
    ids=" ".join,
)
def test_a_plan_names_the_initial_programs(words: list[str]) -> None:
    assert plan(*words)["initial_programs"] == ["PRIMER_EZ", "TRANSFORMER_PP"]
    lines = command("--dry-run", *words).out.splitlines()
    assert any(line.split() == ["initial", "programs", "PRIMER_EZ,", "TRANSFORMER_PP"] for line in lines)
    assert any(line.split() == ["baseline", "TRANSFORMER,", "2", "heads"] for line in lines)


@pytest.mark.usefixtures("on_cpu")
def test_a_plan_without_initial_programs_lists_none() -> None:
    assert plan()["initial_programs"] == []
    assert not [line for line in command("--dry-run").out.splitlines() if line.startswith("initial programs")]


@pytest.mark.usefixtures("on_cpu")
def test_a_budget_of_steps_never_shrinks() -> None:
    planned = plan("--budget", "1s", "--config", "smoke")
    assert (planned["trial_budget"], planned["candidates_expected"], planned["notes"]) == (20.0, 1, [])


STEPS = ["--set", "trial.unit=steps", "--set", "trial.budget_steps=1000"]


@pytest.mark.usefixtures("on_cpu")
def test_a_plan_says_how_long_the_search_lasts_and_what_is_retrained_after_it() -> None:
    planned = {budget: plan("--budget", budget, "--workers", "2", *STEPS) for budget in ("10m", "2h", "24h", "7d")}
    stages = {budget: each["stages"] for budget, each in planned.items()}
    assert [len(found) for found in stages.values()] == [1, 2, 2, 2]
    assert stages["10m"][0]["also"] == [] and stages["2h"][0]["also"] == ["PRIMER_EZ"]
    trainings = [sum(stage["trainings"] for stage in found) for found in stages.values()]
    assert trainings[0] < trainings[1] < trainings[2] < trainings[3]
    for budget, each in planned.items():
        kept = sum(stage["seconds"] for stage in stages[budget])
        assert each["search_seconds"] == each["budget_seconds"] - kept >= 0.75 * each["budget_seconds"]
    assert planned["10m"]["candidates_expected"] < planned["2h"]["candidates_expected"] / 10
    lines = command("--dry-run", "--budget", "24h", "--workers", "2", *STEPS).out.splitlines()
    (larger,) = (line for line in lines if line.startswith("larger size"))
    assert "at 4 layers of width 128, 4000 steps: the best 4 candidates, the baseline and PRIMER_EZ, 6 trai" in larger


@pytest.mark.usefixtures("on_cpu")
def test_a_larger_size_that_cannot_be_read_is_refused_and_one_that_is_not_larger_has_no_effect() -> None:
    assert "search.scale_up = layer=4: 'layer' is not one of" in refused(
        "--dry-run", "--set", "search.scale_up=layer=4"
    )
    stages = plan("--budget", "2h", *STEPS, "--set", "search.scale_up=layers=1,unit=4")["stages"]
    assert [stage["larger"] for stage in stages] == [False]


@pytest.mark.usefixtures("on_cpu")
def test_options_are_settings_and_stronger_than_set(tmp_path: Path) -> None:
    (tmp_path / "a text.txt").write_text("words")
    options = ["--data", "text:a text.txt", "--workers", "3", "--executor", "ray", "--accel", "cpu"]
    config = plan("--set", "workers.count=7", "--set", "trial.batch=3", *options)["config"]
    assert config["data"]["source"] == "text:a text.txt"
    assert (config["workers"]["executor"], config["workers"]["count"], config["workers"]["accel"]) == ("ray", 3, "cpu")
    assert config["trial"]["batch"] == 3
