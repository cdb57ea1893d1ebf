"""The command from outside: what it refuses and how, what it prints, and one whole search with all that follows it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import primer_search
from primer_search.cli import app
from primer_search.primitives import OPS, library
from primer_search.primitives.listing import listing

sys.path.insert(0, str(Path(__file__).parent))
from command import HandmadeRun, command, refused

PACKAGE = Path(primer_search.__file__).parent
TRANSFORMER = json.loads(library.get("TRANSFORMER").to_json())


# --- wrong usage ------------------------------------------------------------------------------------------------

WRONG_USAGE = {
    "an unknown preset": (["--config", "latpop"], "did you mean laptop?"),
    "a missing configuration file": (["--config", "none/of.toml"], "cannot read the configuration"),
    "a misspelt key": (["--set", "trial.bacth=3"], "did you mean trial.batch?"),
    "a misspelt section": (["--set", "trail.batch=3"], "did you mean trial?"),
    "a setting without a value": (["--set", "trial.batch"], "section.key=value"),
    "a setting out of bounds": (["--set", "trial.hurdles=99"], "at most 10"),
    "a duration without a unit": (["--budget", "10"], "--budget: '10' is no duration"),
    "a duration of nothing": (["--budget", "0s"], "--budget: '0s'"),
    "a trial budget that is none": (["--trial-budget", "soon"], "--trial-budget: 'soon'"),
    "a time where steps count": (["--config", "smoke", "--trial-budget", "10s"], "trial.budget_steps=N"),
    "a data path that is not there": (["--data", "text:no/such/text"], "no/such/text"),
    "a source that is none": (["--data", "wikipedia"], "python-stdlib"),
    "an accelerator that is none": (["--accel", "gpuu"], "did you mean gpu?"),
    "an unknown executor": (["--executor", "slurm"], "none of ray, inline"),
    "fewer workers than none": (["--workers", "-1"], "--workers"),
    "a seed program that is none": (["--set", "search.seed_program=PRIMAR"], "did you mean PRIMER?"),
    "a misspelt option": (["--budgt", "10m"], "did you mean --budget?"),
    "a misspelt command": (["leaderbord", "run"], "did you mean leaderboard?"),
    "an option without its value": (["--budget"], "--budget"),
    "a seed that is no number": (["--seed", "x"], "--seed"),
    "an option before a command": (["--budget", "2h", "resume", "run"], "write it after `resume`"),
    "a command without its run": (["leaderboard"], "RUN"),
    "a directory that is no run": (["leaderboard", "{folder}"], "is no run"),
    "a run that is not there": (["show", "no/such/run", "1"], "there is no run no/such/run"),
    "a report of no run": (["report", "{folder}"], "is no run"),
    "an export of no run": (["export", "{folder}", "1"], "is no run"),
    "a stop of no run": (["stop", "{folder}"], "is no run"),
    "a resumption of no run": (["resume", "{folder}"], "is no run"),
    "a run directory in use": (["--config", "smoke", "--run-dir", "{full}"], "is not empty"),
    "a candidate out of range": (["show", "{run}", "99"], "choose one from 0 to 1"),
    "a candidate that is no number": (["show", "{run}", "first"], "`best` or `seed`"),
    "a candidate of twenty digits": (["export", "{run}", "9" * 20], "candidate"),
    "a difference to nothing": (["show", "{run}", "1", "--diff", "mother"], "--diff mother"),
    "a library program that is none": (["show", "PRIMERS"], "did you mean PRIMER?"),
    "an export of a program that is none": (["export", "PRIMERS"], "did you mean PRIMER?"),
    "an interface that comes later": (["export", "PRIMER", "--api", "linen"], "use --api nnx"),
    "a DNA file that is not there": (["check", "none.json"], "there is no file none.json"),
    "a DNA that is a folder": (["check", "{folder}"], "cannot read"),
    "a vocabulary that is none": (["data", "prepare", "python-stdlib", "--vocabulary", "3"], "between 257 and"),
    "data that is not there": (["data", "prepare", "text:no/such/text"], "no/such/text"),
    "an address where nobody listens": (
        ["--address", "127.0.0.1:1", "--config", "smoke", "--executor", "ray", "--run-dir", "{folder}/r"],
        "no Ray cluster answers",
    ),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An empty folder, a full one, and a run of the seed and one candidate."""
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
    assert hint in sentence
    assert not (places["folder"] / "r").exists()
    assert not Path("runs").exists(), "a refused search leaves no run behind"


def test_a_missing_tpu_is_named_with_what_is_there_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    sentence = refused("--accel", "tpu", "--dry-run")
    for part in ("JAX sees no TPU", "CPU", "--accel cpu", "primer-search[tpu]"):
        assert part in sentence


def altered(**changes: Any) -> dict[str, Any]:
    """The Transformer with keys of its first instruction changed."""
    dna = json.loads(json.dumps(TRANSFORMER))
    dna["subprograms"][0]["instructions"][0].update(changes)
    return dna


def doubling_calls(levels: int) -> dict[str, Any]:
    """Every subprogram calls the next one twice."""
    call = {"in1": 0, "in2": 1, "constant": 0, "dimension": 0, "branches": 1}
    bank = [{"name": f"s{level}", "instructions": [{"op": f"call:{level + 1}", **call}] * 2} for level in range(levels)]
    last = {"name": "leaf", "instructions": [{"op": "ABS", **call}]}
    return {"format": 1, "constants": [0.0], "dimensions": [8], "subprograms": [*bank, last]}


NO_DNA = {
    "text that is not JSON": "a block, please",
    "a list": "[]",
    "a cycle": json.dumps(altered(op="call:0")),
    "an unknown op": json.dumps(altered(op="SOFTMAX")),
    "an unknown field": json.dumps(altered(heads=8)),
    "an index out of range": json.dumps(altered(in1=77)),
    "an index out of range that the op ignores": json.dumps(altered(constant=77)),
    "a dimension of a billion": json.dumps({**TRANSFORMER, "dimensions": [10**9]}),
    "a number that is none": json.dumps({**TRANSFORMER, "constants": [math.nan]}),
    "forty levels of doubling calls": json.dumps(doubling_calls(40)),
    "deep brackets": "[" * 100_000,
}


@pytest.mark.parametrize("fault", NO_DNA)
def test_what_is_no_dna_is_refused_in_one_sentence(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_text(NO_DNA[fault])
    assert "dna.json holds no DNA: " in refused("check", file)
    result = command("check", file, "--json")
    assert (result.code, result.json["accepted"], result.json["reason"]) == (2, False, "malformed")


def test_bytes_that_are_no_text_are_no_dna(tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_bytes(b"\xff\xfe{}")
    assert "UTF-8" in refused("check", file)


def test_a_mistake_in_a_process_of_its_own_exits_with_2() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "primer_search", "--config", "latpop"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_an_unforeseen_error_is_a_sentence_unless_asked_for_more(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr("primer_search.search.leaderboard.leaderboard", break_down)
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
    code = f"import sys; from primer_search.cli import main; main(['--help']); {loaded}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "primer-search" in result.stdout
    assert result.stderr.split() == []


def test_the_version_is_told() -> None:
    assert command("--version").out.split()[0] == "primer-search"


# --- the reference ----------------------------------------------------------------------------------------------


def reference() -> str:
    """docs/commands.md, from the commands themselves."""
    root = typer.main.get_command(app)
    parts = [
        "# Commands",
        "Written by `tests/test_cli.py` from the commands themselves, when run with PRIMER_SEARCH_WRITE_DOCS=1.",
        "Exit codes: 0 done; 1 the work failed; 2 wrong usage, configuration or data; 130 interrupted (all is saved).",
    ]
    todo: list[tuple[str, Any]] = [("primer-search", root)]
    while todo:
        name, item = todo.pop(0)
        parts += described(name, item)
        todo = [(f"{name} {key}", sub) for key, sub in getattr(item, "commands", {}).items()] + todo
    return "\n\n".join(parts) + "\n"


def described(name: str, item: Any) -> list[str]:
    """One command: how it is written, what it does, its options."""
    arguments = [parameter for parameter in item.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in item.params if parameter.param_type_name == "option"]
    words = [argument.metavar if argument.required else f"[{argument.metavar}]" for argument in arguments]
    written = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    rows = [("`" + word + "`", item.help, "") for word, item in zip(words, arguments, strict=True)]
    for option in options:
        value = f" {option.metavar}" if option.metavar and not option.is_flag else ""
        default = "" if option.is_flag or option.default is None else f"`{option.default}`"
        rows.append((f"`{', '.join(option.opts)}{value}`", option.help, default))
    lines = ["| | | default |", "|---|---|---|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [f"## {name}", f"    {written}", *item.help.strip().split("\n\n"), *(["\n".join(lines)] if rows else [])]


def test_the_reference_of_the_commands_is_up_to_date() -> None:
    file = PACKAGE / "docs" / "commands.md"
    if os.environ.get("PRIMER_SEARCH_WRITE_DOCS"):
        file.write_text(reference(), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == reference(), "run PRIMER_SEARCH_WRITE_DOCS=1 pytest tests/test_cli.py"


def test_the_package_shows_dna_ops_and_library() -> None:
    from primer_search import DNA
    from primer_search.primitives import DNA as DEFINED

    assert DNA is DEFINED
    assert primer_search.OPS is OPS
    assert primer_search.library.PRIMER_EZ is library.PRIMER_EZ
    assert {"DNA", "OPS", "library"} <= set(dir(primer_search))
    with pytest.raises(AttributeError, match="block"):
        _ = primer_search.block


def test_check_tells_identity_and_cost_of_an_accepted_program() -> None:
    result = command("check", "PRIMER_EZ", "--config", "smoke", "--json")
    checked = result.json
    assert (result.code, checked["accepted"], checked["reason"]) == (0, True, None)
    assert len(checked["structure_hash"]) == len(checked["fingerprint"]) == 32
    assert 0 < checked["block_parameters"] < checked["parameters"]
    assert checked["flops_per_token"] > 0


def test_check_reads_a_file_and_standard_input_alike(tmp_path: Path) -> None:
    text = library.get("PRIMER_EZ", 8).to_json()
    file = tmp_path / "dna.json"
    file.write_text(text)
    from_file = command("check", file, "--json").json
    arguments = [sys.executable, "-m", "primer_search", "check", "-", "--json"]
    piped = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(piped.stdout) == from_file == command("check", "PRIMER_EZ", "--json").json


def one_op(op: str, **fields: int) -> dict[str, Any]:
    """A program of one instruction."""
    instruction = {"op": op, "in1": 0, "in2": 1, "constant": 0, "dimension": 0, "branches": 1, **fields}
    bank = [{"name": "main", "instructions": [instruction]}]
    return {"format": 1, "constants": [0.0], "dimensions": [8], "subprograms": bank}


REFUSED = {"kinds": one_op("T_MAT_MUL"), "finiteness": one_op("EXP"), "causality": TRANSFORMER}


def refused_program(reason: str) -> dict[str, Any]:
    """A well-formed program that the language refuses for this reason."""
    dna = json.loads(json.dumps(REFUSED[reason]))
    if reason == "causality":  # attention without its mask
        softmax = next(subprogram for subprogram in dna["subprograms"] if subprogram["name"] == "softmax")
        mask = next(instruction for instruction in softmax["instructions"] if instruction["op"] == "MASK")
        mask["op"] = "ABS"
    if reason == "finiteness":  # exp(exp(exp(exp(x))))
        dna["subprograms"][0]["instructions"] += [
            {**dna["subprograms"][0]["instructions"][0], "in1": k} for k in (2, 3, 4)
        ]
    return dna


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("reason", REFUSED)
def test_check_exits_1_for_a_dna_that_the_language_refuses(reason: str, tmp_path: Path) -> None:
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(refused_program(reason)))
    result = command("check", file, "--json")
    assert (result.code, result.json["accepted"], result.json["reason"]) == (1, False, reason)
    assert result.json["message"]
    assert result.json["fingerprint"] is None
    said = command("check", file)
    assert (said.code, said.err) == (1, "")
    assert said.out.startswith(f"refused ({reason}): ")


def test_a_program_too_large_to_probe_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    giant = one_op("CONV_31X1", branches=16)
    giant["dimensions"] = [64]
    giant["subprograms"][0]["instructions"] *= 2
    giant["subprograms"][0]["instructions"][1] = {**giant["subprograms"][0]["instructions"][0], "in1": 2}
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(giant))
    result = command("check", file, "--json")
    assert (result.code, result.json["reason"]) == (1, "parameters")


def test_primitives_lists_every_op_once() -> None:
    listed = [row["name"] for row in command("primitives", "--json").json["primitives"]]
    assert listed == list(OPS)
    assert len(command("primitives").out.splitlines()) == len(OPS)
    markdown = command("primitives", "--markdown").out.splitlines()
    assert len(markdown) == len(OPS) + 2
    assert {line.replace("\\|", "").count("|") for line in markdown} == {5}


def test_show_knows_the_library() -> None:
    shown = command("show", "PRIMER_EZ", "--diff", "TRANSFORMER", "--json").json
    assert shown["listing"] == listing(library.get("PRIMER_EZ"))
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
    planned = plan()
    assert (planned["preset"], planned["budget_seconds"], planned["trial_budget"]) == ("laptop", 600.0, 30.0)
    assert planned["hurdles"] == [2.0, 6.0, 14.0]
    assert planned["candidates_expected"] == pytest.approx(planned["workers"] * 600 / 13, abs=1)
    assert not list(Path.cwd().iterdir())
    assert "trial budget  30s of the worker's CPU time" in command("--dry-run").out


@pytest.mark.usefixtures("on_cpu")
def test_a_short_budget_shrinks_the_trial_budget_and_says_so() -> None:
    result = command("--dry-run", "--json", "--budget", "1m")
    assert result.json["trial_budget"] == 60 / 8
    assert "the trial budget is 7.5s instead of 30s" in result.err


@pytest.mark.usefixtures("on_cpu")
def test_a_trial_budget_that_was_asked_for_stays_while_it_fits() -> None:
    result = command("--dry-run", "--json", "--budget", "1m", "--trial-budget", "20s")
    assert result.json["trial_budget"] == 20.0
    assert "expect little" in result.err
    assert plan("--budget", "1m", "--trial-budget", "5s")["notes"] == []
    assert plan("--budget", "1m", "--trial-budget", "7m")["trial_budget"] == 60 / 8


@pytest.mark.usefixtures("on_cpu")
def test_a_budget_of_steps_never_shrinks() -> None:
    planned = plan("--budget", "1s", "--config", "smoke")
    assert (planned["trial_budget"], planned["candidates_expected"], planned["notes"]) == (20.0, None, [])


@pytest.mark.usefixtures("on_cpu")
def test_options_are_settings_and_stronger_than_set(tmp_path: Path) -> None:
    (tmp_path / "a text.txt").write_text("words")
    options = ["--data", "text:a text.txt", "--workers", "3", "--executor", "ray", "--accel", "cpu"]
    config = plan("--set", "workers.count=7", "--set", "trial.batch=3", *options)["config"]
    assert config["data"]["source"] == "text:a text.txt"
    assert config["workers"] | {"memory_gib": 0.0} == {"executor": "ray", "count": 3, "accel": "cpu", "memory_gib": 0.0}
    assert config["trial"]["batch"] == 3


# --- a whole search ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Searched:
    """A real run: its directory, and what the command printed when it ended."""

    path: Path
    out: str
    err: str


def text_source(folder: Path) -> str:
    """Some real text in twenty documents: this package's own modules."""
    folder.mkdir()
    for file in sorted((PACKAGE / "primitives").glob("*.py")):
        (folder / f"{file.stem}.txt").write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    return f"text:{folder}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(folder / "cache"))
        yield text_source(folder / "text")


SMOKE = ("--config", "smoke", "--executor", "inline", "--set", "trial.hurdles=0")


@pytest.fixture(scope="module")
def searched(source: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search of seconds, taken up again until a candidate has trained in full, however slow the machine."""
    path = tmp_path_factory.mktemp("runs") / "a run"
    result = command("--budget", "6s", *SMOKE, "--data", source, "--run-dir", path)
    assert result.code == 0, result
    for _ in range(20):
        board = command("leaderboard", path, "--json").json
        if any(row["rank"] and row["id"] for row in board["candidates"]) and board["seed"]["trials"] == 2:
            return Searched(path, result.out, result.err)
        result = command("resume", path, "--budget", "5s")
        assert result.code == 0, result
    pytest.fail("no candidate trained in full")


def test_a_search_ends_with_the_leaderboard_and_what_to_type_next(searched: Searched) -> None:
    for words in ("rank", "UNCONFIRMED", "outcomes", "proposals", "wall clock", "training", "idle", "report.html"):
        assert words in searched.out
    named = f"'{searched.path}'"  # quoted, as its name holds a space
    for typed in (f"primer-search show {named}", f"primer-search export {named}", f"primer-search resume {named}"):
        assert typed in searched.out
    assert {file.name for file in searched.path.iterdir()} >= {"run.sqlite", "report.html"}


def test_progress_goes_to_stderr(searched: Searched) -> None:
    assert "starting" in searched.err
    assert "rank" not in searched.err


def test_the_leaderboard_is_one_json_object(searched: Searched) -> None:
    result = command("leaderboard", searched.path, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json["run"] == str(searched.path)
    for row in result.json["candidates"]:
        assert {"id", "parent", "loss_nats", "bits_per_byte", "outcome", "parameters", "step_ms"} <= set(row)
    assert len(command("leaderboard", searched.path, "--top", "1", "--json").json["candidates"]) == 1


def test_the_best_candidate_is_shown_with_its_program_and_its_difference(searched: Searched) -> None:
    shown = command("show", searched.path, "best", "--diff", "seed", "--json").json
    first = next(row for row in command("leaderboard", searched.path, "--json").json["candidates"] if row["id"])
    assert (shown["id"], shown["loss_nats"]) == (first["id"], first["loss_nats"])
    assert shown["against"] == "the seed"
    assert shown["dna"]["format"] == 1
    printed = command("show", searched.path, str(shown["id"]), "--diff", "parent").out
    assert shown["listing"] in printed
    assert shown["lineage"][0]["mutations"][0] in printed
    assert "difference to its parent" in printed


def test_the_seed_is_shown_and_has_no_parent(searched: Searched) -> None:
    assert command("show", searched.path, "seed").out.startswith("the seed")
    assert "no parent" in refused("show", searched.path, "0", "--diff", "parent")


def test_a_shown_dna_passes_check_with_the_same_identity(searched: Searched, tmp_path: Path) -> None:
    shown = command("show", searched.path, "best", "--json").json
    file = tmp_path / "dna.json"
    file.write_text(json.dumps(shown["dna"]))
    checked = command("check", file, "--config", "smoke", "--json").json
    assert checked["structure_hash"] == shown["structure_hash"]
    assert checked["parameters"] == shown["parameters"]


def test_the_best_candidate_is_exported_once(searched: Searched, tmp_path: Path) -> None:
    file = tmp_path / "block.py"
    result = command("export", searched.path, "best", "-o", file, "--name", "Found")
    assert result.code == 0, result
    assert "class Found(" in file.read_text()
    assert "exists" in refused("export", searched.path, "best", "-o", file)
    assert command("export", searched.path, "best", "-o", file, "--force").code == 0


def test_a_report_goes_where_it_is_told(searched: Searched, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert command("report", searched.path, "-o", page).code == 0
    assert "<table" in page.read_text(encoding="utf-8")
    assert "cannot write the report" in refused("report", searched.path, "-o", tmp_path / "none" / "report.html")


def test_resume_goes_on_and_prints_json_alone(searched: Searched) -> None:
    before = command("leaderboard", searched.path, "--json").json["totals"]["trials"]
    result = command("resume", searched.path, "--budget", "4s", "--json")
    assert result.code == 0
    assert result.json["totals"]["trials"] > before


def test_a_spent_budget_is_said(searched: Searched) -> None:
    assert "has spent its budget" in refused("resume", searched.path)


def test_a_run_directory_that_holds_a_run_is_not_searched_again(searched: Searched) -> None:
    assert "holds a run already" in refused("--config", "smoke", "--run-dir", searched.path)


def test_a_run_that_is_not_running_has_nothing_to_stop(searched: Searched) -> None:
    result = command("stop", searched.path)
    assert (result.code, "is not running" in result.err) == (0, True)


# --- ending early -----------------------------------------------------------------------------------------------


@pytest.fixture
def running(source: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A search of ten minutes in a process of its own, past its first trial."""
    path = tmp_path / "run"
    arguments = [sys.executable, "-m", "primer_search", *SMOKE, "--data", source, "--run-dir", str(path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if (path / "run.sqlite").exists() and command("leaderboard", path, "--json").json["totals"]["trials"]:
                break
            time.sleep(0.1)
        yield process, path
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_search_exits_with_130_and_says_how_to_go_on(
    number: signal.Signals, running: tuple[subprocess.Popen[str], Path]
) -> None:
    process, path = running
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].endswith(f"go on with `primer-search resume {path}`")
    assert "Traceback" not in err
    assert command("resume", path, "--budget", "1s", "--json").json["totals"]["trials"] > 0


def test_stop_ends_a_running_search_which_prints_its_leaderboard(running: tuple[subprocess.Popen[str], Path]) -> None:
    process, path = running
    assert "is going on already" in refused("resume", path)
    result = command("stop", path)
    assert (result.code, "has stopped" in result.err) == (0, True)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped as asked" in out
