"""Environment variables and paths of other machines: nothing that needs no device fails for them."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from primer_search.cli.app import app
from primer_search.cli.data import data_app
from primer_search.cli.options import set_jax_platforms
from primer_search.primitives.errors import UsageError
from primer_search.system.user_folders import cache_folder, user_path
from primer_search.tests.support.command import command, refused
from primer_search.workers.devices import ray_environment
from primer_search.workers.devices.ray_environment import ray_folder
from primer_search.workers.devices.worker_environment import worker_environment

SMOKE = ("--config", "smoke", "--dry-run")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process with these environment variables."""
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, timeout=300)


# JAX


@pytest.mark.parametrize(
    ("name", "platforms", "settled"),
    [
        ("gpu", None, None),
        ("cpu", None, "cpu"),
        ("gpu", "cpu", "cpu"),
        (None, "cuda", "cuda,cpu"),
        ("cpu", "tpu,cpu", "tpu,cpu"),
        (None, "", ""),
    ],
)
def test_jax_is_asked_for_platforms_in_one_way_and_has_the_cpu_beside_them(
    name: str | None, platforms: str | None, settled: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (("JAX_PLATFORM_NAME", name), ("JAX_PLATFORMS", platforms)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    set_jax_platforms()
    assert os.environ.get("JAX_PLATFORMS") == settled
    assert "JAX_PLATFORM_NAME" not in os.environ


def test_an_export_needs_no_gpu_and_goes_to_standard_output(tmp_path: Path) -> None:
    export = "from primer_search.cli.app import main; raise SystemExit(main())"
    variables = {**os.environ, "JAX_PLATFORMS": "cuda", "JAX_PLATFORM_NAME": "gpu"}
    words = [sys.executable, "-c", export, "export", "PRIMER_EZ", "-o", "-"]
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "PrimerEZBlock" in [node.name for node in ast.parse(done.stdout).body if isinstance(node, ast.ClassDef)]
    assert done.stderr == "wrote the source: class PrimerEZBlock, checked against the program\n"
    assert list(tmp_path.iterdir()) == []


def test_weights_are_not_written_beside_standard_output() -> None:
    assert "give -o a file" in refused("export", "no/such/run", "best", "--weights", "-o", "-")


WITHOUT_THE_DEVICE = """
from primer_search.cli.options import choose_platform
choose_platform()
from primer_search.search.doctor.environment import environment_findings
print(*[f"{finding.verdict}: {finding.reason}" for finding in environment_findings() if finding.check == "JAX"])
"""


def test_a_missing_device_is_named_once_and_the_cpu_used() -> None:
    done = python(WITHOUT_THE_DEVICE, JAX_PLATFORMS="no_such_platform", JAX_PLATFORM_NAME="gpu")
    assert done.stderr.startswith("using the CPU: JAX_PLATFORMS names no_such_platform, but JAX finds no such device")
    assert done.stderr.count("\n") == 1
    assert done.stdout.startswith("warning: ")
    assert "1 device: cpu (cpu); JAX_PLATFORMS names no_such_platform" in done.stdout


@pytest.mark.parametrize(("kind", "platforms"), [("H100", "cuda,cpu"), ("AMD-Instinct-MI300X-OAM", "rocm,cpu")])
def test_workers_are_told_the_platform_of_their_gpus_maker(kind: str, platforms: str) -> None:
    variables = worker_environment("gpu", 1, kind=kind)
    assert variables["JAX_PLATFORMS"] == platforms
    assert variables["JAX_PLATFORM_NAME"] == "", "that of the machine must not reach the worker"


# The folder of Ray


def test_a_short_folder_of_ours_replaces_one_that_is_too_long_for_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert ray_folder() is None
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("j" * 80)))
    own = ray_folder()
    assert own is not None and len(str(own)) < 40
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(ray_environment, "_SOCKET_BYTES", 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    assert ray_folder() == Path(f"/tmp/primer-search-ray-{os.getuid()}")


def test_a_folder_of_another_user_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_environment, "_SOCKET_BYTES", 1000)
    assert ray_environment._unusable(tmp_path, private=True) == ""
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert ray_environment._unusable(tmp_path, private=True) == f"{tmp_path} belongs to another user"


def test_a_ray_tmpdir_that_cannot_be_used_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "j" * 80)
    said = refused(*SMOKE, "--executor", "ray")
    assert "set RAY_TMPDIR" in said and "too long for a socket" in said
    assert command(*SMOKE, "--executor", "inline").code == 0


def test_a_ray_tmpdir_that_cannot_be_written_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_environment, "_SOCKET_BYTES", 1000)
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    said = refused(*SMOKE, "--executor", "ray")
    assert "set RAY_TMPDIR" in said and f"{tmp_path / 'file'} cannot be written" in said


def test_a_start_of_ray_that_takes_too_long_is_explained() -> None:
    slow = Exception("The current node timed out during startup. This could happen because some of the raylet failed")
    said = ray_environment.start_failure(slow)
    assert "overloaded" in said and "--executor inline" in said and "\n" not in said
    assert "OSError: No space left" in ray_environment.start_failure(OSError("No space left\nmore"))


# Folders of the user


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry of the password file, as in some containers."""

    def no_entry(_: int) -> None:
        raise KeyError

    for variable in ("HOME", "PRIMER_SEARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)


def test_without_a_home_folder_the_remedy_is_said_before_anything_starts(
    homeless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "set PRIMER_SEARCH_CACHE" in refused(*SMOKE, "--executor", "inline")
    assert "set HOME" in refused(*SMOKE, "--executor", "ray")
    assert "write the whole path" in refused("leaderboard", "~/run")
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path))
    assert command(*SMOKE, "--executor", "inline").code == 0


def test_the_cache_is_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRIMER_SEARCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for shared, expected in (("", "~/.cache"), ("relative", "~/.cache"), ("/somewhere", "/somewhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", shared)
        assert cache_folder("data") == user_path(expected) / "primer-search" / "data"
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", "~/own")
    assert cache_folder("data") == tmp_path / "own" / "data"
    with pytest.raises(UsageError, match="write the whole path"):
        user_path("~no_such_user/x")


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.toml").write_bytes(b"\xef\xbb\xbf[trial]\nbatch = 3\n")  # with a byte order mark
    plan = command(
        "--config=~/own.toml", "--run-dir=~/run", "--set", "optimizer.learning_rate=.001", "--dry-run", "--json"
    )
    assert plan.code == 0, plan.err
    assert plan.json["run_dir"] == str(tmp_path / "run")
    assert plan.json["config"]["trial"]["batch"] == 3
    assert plan.json["config"]["optimizer"]["learning_rate"] == 0.001
    shown = command("show", "PRIMER_EZ", "--json").json["dna"]
    (tmp_path / "ez.json").write_text(json.dumps(shown))
    assert command("check", "~/ez.json", "--config", "smoke").code == 0
    assert str(tmp_path / "run") in refused("leaderboard", "~/run")


def test_every_option_for_a_path_knows_the_tilde() -> None:
    commands = [*app.registered_commands, *data_app.registered_commands]
    callbacks = [command.callback for command in commands if command.callback is not None]
    assert app.registered_callback is not None and app.registered_callback.callback is not None
    paths = 0
    for callback in [app.registered_callback.callback, *callbacks]:
        for parameter in inspect.signature(callback, eval_str=True).parameters.values():
            annotation = parameter.annotation
            if getattr(annotation, "__origin__", None) in (Path, Path | None):
                paths += 1
                assert annotation.__metadata__[0].parser is user_path, (callback.__name__, parameter.name)
    assert paths >= 8
