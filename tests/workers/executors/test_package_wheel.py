"""The wheel for a cluster: pip accepts it, and a process without the package runs it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import primer_search
from primer_search.workers.executors.package_wheel import Wheel, build_wheel

ROOT = Path(primer_search.__file__).parent


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return build_wheel()


def names_in(wheel: Wheel) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(wheel.content)).namelist())


def test_the_wheel_holds_exactly_the_packages_of_the_installation(wheel: Wheel) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    expected = {
        f"primer_search/{file.relative_to(ROOT).as_posix()}"
        for package in settings["packages"]
        for pattern in ("*.py", *settings["package-data"].get(package, ()))
        for file in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    assert {name for name in names_in(wheel) if ".dist-info/" not in name} == expected


def test_equal_files_make_equal_wheels_named_by_their_content(wheel: Wheel) -> None:
    again = build_wheel()
    assert again == wheel
    assert wheel.digest in wheel.name


def test_changed_files_make_another_name(wheel: Wheel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "primer_search"
    for name in names_in(wheel):
        if name.startswith("primer_search/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name.partition("/")[2]).read_bytes())
    monkeypatch.setattr("primer_search.workers.executors.package_wheel._ROOT", copy)
    assert build_wheel().digest == wheel.digest, "the folder of the files does not matter"
    (copy / "configs" / "laptop.toml").write_text("")
    assert build_wheel().digest != wheel.digest


def test_pip_installs_the_wheel_without_a_network(wheel: Wheel, tmp_path: Path) -> None:
    pytest.importorskip("pip")
    (tmp_path / wheel.name).write_bytes(wheel.content)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, f"--target={tmp_path / 'there'}", str(tmp_path / wheel.name)], check=True)
    assert (tmp_path / "there" / "primer_search" / "workers" / "training" / "trial.py").is_file()


INSTALL_WORKERS = """
import importlib.util, pathlib, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
assert importlib.util.find_spec("primer_search") is None, "the package must not be installed"
namespace = {"__name__": "ray_actor"}
exec(pathlib.Path(sys.argv[1]).read_text(), namespace)
wheel = pathlib.Path(sys.argv[2]).read_bytes()
workers = [namespace["Worker"](sys.argv[3], wheel) for _ in range(2)]
import primer_search
from primer_search.workers.executors.package_wheel import build_wheel
assert build_wheel().digest == sys.argv[3], "a driver may also run from an installed wheel"
print(pathlib.Path(primer_search.__file__).parents[1].name)
print(workers[1].host_info().has_data, workers[0].report()[0].phase)
"""


def test_a_worker_starts_on_a_machine_without_the_package(wheel: Wheel, tmp_path: Path) -> None:
    file = tmp_path / wheel.name
    file.write_bytes(wheel.content)
    ray_actor = ROOT / "workers" / "executors" / "ray_actor.py"
    # No folder of this repository may be on its path: -P leaves the current one out.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TMPDIR"] = str(tmp_path)
    command = [sys.executable, "-P", "-c", INSTALL_WORKERS, str(ray_actor), str(file), wheel.digest]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert answer.stdout.split() == [wheel.digest, "True", "idle"], answer.stderr
