"""A plugin outside the package: found by a search, trained, decoded, exported, recorded, and loaded again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primer_search.configs.load import load
from primer_search.plugins import registry
from primer_search.plugins.contract_check import check_plugin
from primer_search.plugins.loader import load_plugins
from primer_search.plugins.registry import loaded_plugins, register, unload
from primer_search.plugins.sources import find_source, installed_sources, is_checked, is_known, remember
from primer_search.primitives.errors import UsageError
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs.library import LIBRARY, TRANSFORMER, get
from primer_search.search.config import SearchConfig
from primer_search.search.evolution.paper_mutations import MUTATIONS, mutate
from primer_search.search.evolution.vocabulary import PAPER, read_vocabulary, with_named_plugins
from primer_search.search.guided.live_mutations import LIVE_MUTATIONS, mutate_live
from primer_search.search.reports.figures.program_drawing import OWN_FAMILY, draw_program
from primer_search.search.runs.run_directory import create_run_directory
from primer_search.search.runs.store import Store
from primer_search.search.sessions import session
from primer_search.search.sessions.session import SessionOptions
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_runs import stop_after, write_text

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "gated_unit.py"

MUTATION = '''
"""A plugin with a mutation alone."""

from dataclasses import replace

from primer_search.plugins import Plugin


def negate(dna, rng):
    place = int(rng.integers(len(dna.constants)))
    if dna.constants[place] == 0:
        return None
    constants = list(dna.constants)
    constants[place] = -constants[place]
    return replace(dna, constants=tuple(constants)), f"constant {place}"


PLUGIN = Plugin(mutations={"Negate": negate})
'''


@pytest.fixture(autouse=True)
def no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end without plugins, and with an empty cache."""
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    yield
    forget_all()


def forget_all() -> None:
    for loaded in loaded_plugins():
        unload(loaded.source.name)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A copy of the example whose check is on record, as after its first use."""
    path = Path(shutil.copy(EXAMPLE, tmp_path / "gated_unit.py"))
    remember(find_source(str(path)))
    return path


def test_the_example_is_short_and_keeps_the_contract() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    check_plugin([], find_source(str(EXAMPLE)))


def test_a_plugin_is_searched_trained_exported_and_loaded_again(tmp_path: Path, plugin: Path) -> None:
    load_plugins([str(plugin)])
    settings = ["search.strategy=guided", "search.vocabulary=gated_unit", "search.baseline_trials=1"]
    smoke = load("smoke", [*settings, "search.confirm_top=0", "trial.hurdles=0", "trial.price=false"])
    config = replace(smoke, data=replace(smoke.data, source=f"text:{write_text(tmp_path / 'text')}"))
    run = create_run_directory(tmp_path / "run")
    options = SessionOptions(observe=stop_after(run, 5))
    session.start(config, run, seed=0, budget_seconds=600.0, options=options)
    with Store.open(run.path, read_only=True) as store:
        (recorded,) = store.manifest["plugins"]
        found = [one.id for one in store.candidates() if "GATED_UNIT" in str(one.dna)]
        trained = {trial.candidate_id for trial in store.evaluations() if trial.evaluation.loss_nats is not None}
    assert (recorded["name"], recorded["text"]) == ("gated_unit", plugin.read_text())
    candidate = min(trained & set(found))

    forget_all()
    assert "GATED_UNIT" in command("show", run.path, str(candidate)).out
    block = tmp_path / "block.py"
    exported = command("export", run.path, str(candidate), "-o", block)
    assert exported.code == 0, exported.err
    assert "def gated_unit(x, gate, value):" in block.read_text()
    generated = command("generate", run.path, str(candidate), "--tokens", "3")
    assert generated.code == 0, generated.err

    forget_all()
    text = plugin.read_text()
    plugin.write_text(text.replace("silu(x times", "SiLU(x times"))
    assert "has changed since" in refused("leaderboard", run.path)
    plugin.unlink()
    assert "is not found" in refused("leaderboard", run.path)
    plugin.write_text(text)
    shutil.rmtree(tmp_path / "cache" / "plugins")
    assert "which you have not loaded before" in refused("resume", run.path)
    assert not loaded_plugins()


@pytest.mark.slow
def test_ray_workers_execute_the_text_of_a_plugin(tmp_path: Path, plugin: Path) -> None:
    load_plugins([str(plugin)])
    settings = ["search.baseline=TRANSFORMER_GATED", "search.confirm_top=0", "search.baseline_trials=1"]
    smoke = load("smoke", settings)
    data = replace(smoke.data, source=f"text:{write_text(tmp_path / 'text')}")
    config = replace(smoke, data=data, workers=replace(smoke.workers, executor="ray", count=1))
    run = create_run_directory(tmp_path / "run")
    options = SessionOptions(observe=stop_after(run, 3))
    session.start(config, run, seed=0, budget_seconds=600.0, options=options)
    with Store.open(run.path, read_only=True) as store:
        first = store.evaluations()[0]
        assert "GATED_UNIT" in str(store.candidate(first.candidate_id).dna)
    assert first.evaluation.outcome == "ok"


def test_a_plugin_adds_its_ops_and_programs_and_takes_them_away(plugin: Path) -> None:
    before = dict(OPS)
    register(find_source(str(plugin)))
    assert OPS["GATED_UNIT"].origin == "gated_unit"
    assert get("TRANSFORMER_GATED", 8) != TRANSFORMER
    unload("gated_unit")
    assert before == OPS
    assert "TRANSFORMER_GATED" not in LIBRARY


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"GATED_UNIT", "silu', '"ADD", "silu', "already a op named ADD"),
        ("PLUGIN = Plugin", "raise SystemExit  # OTHER = Plugin", "must assign a Plugin to the name PLUGIN"),
        ("import jax\n", "import jax jax\n", "is not Python: invalid syntax in line 3"),
        ("import numpy as np", "import no_such_package", "cannot be executed: ModuleNotFoundError"),
        ('"TRANSFORMER_GATED"', '"PRIMER"', "already a library program named PRIMER"),
        ("GATED_UNIT h0 width=32", "GATED_UNIT h0 width=5", "program TRANSFORMER_GATED: its text cannot be assembled"),
        ('family="dense"', 'family=""', "op GATED_UNIT: its family must be named"),
    ],
)
def test_a_plugin_that_clashes_or_is_incomplete_is_refused(plugin: Path, old: str, new: str, words: str) -> None:
    plugin.write_text(plugin.read_text().replace(old, new))
    remember(find_source(str(plugin)))
    before = dict(OPS)
    assert words in refused("primitives", "--plugin", plugin)
    assert before == OPS


def test_a_broken_promise_is_found_in_a_separate_process_and_named(plugin: Path) -> None:
    plugin.write_text(plugin.read_text().replace("np.tanh", "np.sin"))
    result = command("primitives", "--plugin", plugin)
    note, sentence = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert note == "plugin gated_unit: checking its contract (once for each version of its source)"
    assert "plugin gated_unit, op GATED_UNIT: reference: forward and reference differ by" in sentence
    assert not is_known(find_source(str(plugin)))
    assert not is_checked(find_source(str(plugin)))


@pytest.mark.parametrize("reference", ["no_such_module_here", "no/such/file.py", "no/such/file.txt"])
def test_a_plugin_that_is_not_there_is_refused(reference: str) -> None:
    assert reference in refused("primitives", "--plugin", reference)


def test_an_importable_module_is_a_plugin(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plugin.parent))
    load_plugins(["gated_unit"])
    assert loaded_plugins()[0].source.reference == "gated_unit"


PYPROJECT = """
[project]
name = "own-blocks"
version = "1.0"
[project.entry-points."primer_search.plugins"]
gated_unit = "own_blocks.gated_unit"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
packages = ["own_blocks"]
"""


def test_an_installed_package_offers_a_plugin_to_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    (package / "own_blocks").mkdir(parents=True)
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "own_blocks" / "__init__.py").write_text("")
    shutil.copy(EXAMPLE, package / "own_blocks" / "gated_unit.py")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(package)], check=True, cwd=tmp_path)
    assert "GATED_UNIT" not in command("primitives").out
    monkeypatch.syspath_prepend(str(site))
    (offered,) = installed_sources()
    assert (offered.name, offered.reference) == ("gated_unit", "own_blocks.gated_unit")
    remember(offered)
    assert "GATED_UNIT" in command("primitives").out
    assert command("check", "TRANSFORMER_GATED", "--config", "smoke").code == 0
    assert loaded_plugins()[0].source.reference == "own_blocks.gated_unit"

    forget_all()
    (site / "own_blocks" / "gated_unit.py").unlink()
    assert "the installed package own-blocks offers the plugin own_blocks.gated_unit" in refused("primitives")


def test_a_drawn_program_shows_the_family_of_an_op(tmp_path: Path, plugin: Path) -> None:
    register(find_source(str(plugin)))
    drawn = draw_program(get("TRANSFORMER_GATED", 8), title="gated", everything=True)
    legend = drawn[drawn.rindex("</title>") :]
    assert ">dense</text>" in legend and ">other</text>" not in legend
    forget_all()
    plugin.write_text(plugin.read_text().replace('family="dense"', 'family="gates"'))
    register(find_source(str(plugin)))
    drawn = draw_program(get("TRANSFORMER_GATED", 8), title="gated", everything=True)
    assert ">gates</text>" in drawn and f">{OWN_FAMILY[0]}</text>" in drawn


def test_the_vocabulary_is_a_setting(plugin: Path) -> None:
    assert read_vocabulary(SearchConfig().vocabulary).ops == PAPER.ops
    assert "EXP" not in read_vocabulary("paper,-EXP").ops
    load_plugins([str(plugin)])
    assert read_vocabulary("paper,plugins").ops == (*PAPER.ops, "GATED_UNIT")
    assert read_vocabulary("paper").ops == PAPER.ops
    assert read_vocabulary("gated_unit,ADD").ops == ("ADD", "GATED_UNIT")
    assert with_named_plugins("paper,plugins") == "paper,gated_unit"
    for setting, words in (("paper,EXPP", "did you mean"), ("paper,-paper", "leaves no op"), ("", "leaves no op")):
        with pytest.raises(UsageError, match=words):
            read_vocabulary(setting)
    assert "search.vocabulary" in refused("--dry-run", "--set", "search.vocabulary=nothing")


def test_both_strategies_draw_the_ops_and_the_mutations_of_plugins(tmp_path: Path, plugin: Path) -> None:
    own = tmp_path / "negation.py"
    own.write_text(MUTATION)
    remember(find_source(str(own)))
    load_plugins([str(plugin), str(own)])
    vocabulary = read_vocabulary("paper,plugins")
    for edit in (mutate, mutate_live):
        rng = np.random.default_rng(0)
        described = [edit(TRANSFORMER, rng, vocabulary)[1] for _ in range(600)]
        assert sum("GATED_UNIT" in line for line in described) > 2
        assert sum(line.startswith("Negate: constant") for line in described) > 10


def test_names_of_built_in_mutations_are_taken() -> None:
    assert {*MUTATIONS, *LIVE_MUTATIONS} == registry.BUILT_IN_MUTATIONS
