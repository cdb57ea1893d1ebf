"""The shape of the code: layers import one way, heavy libraries stay in one module each, files stay short."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import primer_search

ROOT = Path(primer_search.__file__).parent
LAYERS = ("primitives", "system", "models", "plugins", "workers", "search", "configs", "interface", "cli")
PACKAGE_FILES = sorted([*ROOT.glob("*.py"), *(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))])
OTHER_FILES = sorted(file for folder in ("tests", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.py"))
WRITTEN_FILES = sorted(
    file
    for pattern in (
        "*.toml",
        "*.md",
        "*.cff",
        "*.yaml",
        "Makefile",
        ".ci/run",
        "configs/*.toml",
        "docs/**/*.md",
        "docs/*.ipynb",
    )
    for file in ROOT.glob(pattern)
)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

ONE_MODULE_EACH = {
    "Ray": {"ray"},
    "SQLite": {"sqlite3"},
    "TensorFlow Datasets": {"tensorflow_datasets"},
    "TensorBoard": {"tensorboardX", "tensorboard"},
    "Weights & Biases": {"wandb"},
    "MLflow": {"mlflow"},
    "pandas": {"pandas"},
    "PyArrow": {"pyarrow"},
    "a web server": {"starlette", "uvicorn", "fastapi", "flask", "aiohttp", "http.server"},
}
TRAINING = ("jax", "flax", "optax", "orbax", "safetensors", "ray", "tokenizers", "tensorflow_datasets", "tensorflow")
HEAVY = (*TRAINING, "pydantic", "plotly", "pandas", "pyarrow", "tensorboardX", "wandb", "mlflow")
LIGHT_MODULES = (
    "primer_search",
    "primer_search.search",
    "primer_search.search.config",
    "primer_search.configs",
    "primer_search.cli.app",
)
IMPORT_ORDER = {
    "primitives": ("errors", "suggestions", "ops", "programs", "graphs", "causality", "differences"),
    "workers": (
        "config",
        "position_buckets",
        "price_prior",
        "protocol",
        "devices",
        "data",
        "objectives",
        "training",
        "executors",
    ),
    "search": (
        *("config", "evolution", "guided", "doctor", "runs", "recovery", "results", "one_program"),
        *("studies", "weights", "refinement", "reports", "tracking", "sessions", "simulation", "dashboard"),
    ),
}
"""The modules and folders of a package in the order of its imports: each may import only itself and earlier ones."""
MAX_FILES_PER_PACKAGE = 16
PACKAGES = sorted({file.parent for file in PACKAGE_FILES if file.parent != ROOT})
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|Users|root|work|workspace|mnt)/\w")


def name_of(file: Path) -> str:
    """A file's path from the root, as tests print it."""
    return file.relative_to(ROOT).as_posix()


def layer_of(module: str) -> int | None:
    """The position in `LAYERS` of a module of the package; `__init__` and `__main__` belong to the last."""
    if module.partition(".")[0] != "primer_search":
        return None
    part = [*module.split("."), ""][1]
    return LAYERS.index(part) if part in LAYERS else len(LAYERS) - 1


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Absolute names of all modules that a module imports, at any depth, also for type checking only."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import x` may import the module x, `from ..x import y` imports x whatever y is.
            yield from ([f"{prefix}.{alias.name}" for alias in node.names] if node.module is None else [prefix])


def imports_of_file(file: Path) -> list[str]:
    """`imports_of` for a file of the package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(("primer_search", *(parts[:-1] if is_package else parts)))
    return list(imports_of(file.read_text(encoding="utf-8"), module, is_package))


def module_of(file: Path) -> str:
    """The dotted name of a module of the package."""
    return ".".join(("primer_search", *file.relative_to(ROOT).with_suffix("").parts))


def imports_of_modules(file: Path) -> set[str]:
    """The imports of a file, with `from .package import module` read as the module."""
    found = set(imports_of_file(file))
    base = module_of(file).split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            prefix = ".".join([*base[: len(base) - node.level + 1], node.module])
            found |= {f"{prefix}.{alias.name}" for alias in node.names}
    return found


def test_relative_imports_are_resolved_as_python_does() -> None:
    source = "import ray\nfrom . import a\nfrom .b import c\nfrom ..models import d\nfrom .. import cli\n"
    expected = ["ray", "p.search.a", "p.search.b", "p.models", "p.cli"]
    assert list(imports_of(source, "p.search.x")) == expected
    assert list(imports_of(source, "p.search", is_package=True)) == expected


@pytest.mark.parametrize("file", [file for file in PACKAGE_FILES if file.parent != ROOT], ids=name_of)
def test_imports_flow_one_way(file: Path) -> None:
    own = LAYERS.index(file.relative_to(ROOT).parts[0])
    upward = [name for name in imports_of_file(file) if (layer_of(name) or 0) > own]
    assert not upward, f"{name_of(file)} is in {LAYERS[own]} and imports {upward}; the order is {' <- '.join(LAYERS)}"


@pytest.mark.parametrize("package", IMPORT_ORDER)
def test_imports_flow_one_way_inside_a_package(package: str) -> None:
    order = IMPORT_ORDER[package]
    assert set(order) == {path.stem for path in (ROOT / package).iterdir() if not path.name.startswith("__")}
    for file in PACKAGE_FILES:
        layer, part = [*file.relative_to(ROOT).with_suffix("").parts, ""][:2]
        if layer != package or part == "__init__":
            continue
        inside = [name.split(".")[2] for name in imports_of_file(file) if name.startswith(f"primer_search.{package}.")]
        later = {name for name in inside if order.index(name) > order.index(part)}
        assert not later, f"{name_of(file)} imports {later}; the order is {' <- '.join(order)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {module_of(file): file for file in PACKAGE_FILES if file.name != "__init__.py"}
    graph = {name: names.keys() & imports_of_modules(file) for name, file in names.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_says_what_lives_there(package: Path) -> None:
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert [target.id for target in assigned if isinstance(target, ast.Name)].count("__all__") == 1


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_that_exports_nothing_else_lists_its_modules(package: Path) -> None:
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
        return
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    modules = {file.stem for file in package.glob("*.py")} - {"__init__"}
    folders = {folder.name for folder in package.iterdir() if (folder / "__init__.py").exists()}
    assert set(listed) == modules | folders


@pytest.mark.parametrize(
    "package",
    [each for each in PACKAGES if name_of(each).split("/")[0] in ("primitives", "models", "workers", "search")],
    ids=name_of,
)
def test_a_package_holds_few_files_and_folders(package: Path) -> None:
    assert len([path for path in package.iterdir() if not path.name.startswith("__")]) <= MAX_FILES_PER_PACKAGE


@pytest.mark.parametrize("file", PACKAGE_FILES, ids=name_of)
def test_the_package_imports_itself_relatively(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    absolute = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    absolute += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in absolute if layer_of(name or "") is not None]


@pytest.mark.parametrize("library", ONE_MODULE_EACH)
def test_one_module_imports_each_heavy_library(library: str) -> None:
    names = ONE_MODULE_EACH[library]
    importers = [
        name_of(file)
        for file in PACKAGE_FILES
        if any(found == name or found.startswith(f"{name}.") for found in imports_of_file(file) for name in names)
    ]
    assert len(importers) <= 1, f"{library} is imported by {importers}"


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [], f"import {module} imports {result.stdout.split()}"


@pytest.mark.parametrize("file", PACKAGE_FILES + OTHER_FILES, ids=name_of)
def test_files_have_at_most_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, "one idea a file: split it"


@pytest.mark.parametrize("file", PACKAGE_FILES + OTHER_FILES + WRITTEN_FILES, ids=name_of)
def test_no_file_names_a_path_of_somebodys_machine(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found


def test_every_package_folder_is_listed_for_installation() -> None:
    folders = {file.parent.relative_to(ROOT) for file in PACKAGE_FILES}
    listed = set(PYPROJECT["tool"]["setuptools"]["packages"])
    assert listed == {".".join(("primer_search", *folder.parts)) for folder in folders}


def test_every_library_that_is_imported_is_a_declared_dependency() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    requirements = [*PYPROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    declared = {re.split(r"[\[<>=;]", line)[0].lower() for line in requirements} | {"primer-search"}
    distributions = packages_distributions()
    for file in PACKAGE_FILES + OTHER_FILES:
        beside = {sibling.stem for sibling in file.parent.glob("*.py")}
        imported = {name.partition(".")[0] for name in imports_of_file(file)} - sys.stdlib_module_names - beside
        missing = {name for name in imported if not declared & {name, *map(str.lower, distributions.get(name, ()))}}
        assert not missing, f"{name_of(file)} imports {missing}, which pyproject.toml does not name"


def test_every_declared_dependency_is_imported() -> None:
    imported = {name.partition(".")[0] for file in PACKAGE_FILES for name in imports_of_file(file)}
    distributions = packages_distributions()
    used = {distribution.lower() for name in imported for distribution in distributions.get(name, ())}
    declared = {re.split(r"[\[<>=;]", line)[0].lower() for line in PYPROJECT["project"]["dependencies"]}
    assert declared <= used, f"nothing imports {declared - used}"


def test_few_files_are_long() -> None:
    lines = {name_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in PACKAGE_FILES}
    long = sorted(name for name, count in lines.items() if count > 300)
    assert len(long) < 10, "one idea a file: split one of these"
