"""The examples run as their readers will run them, and do what they say; what they take from an export is unedited."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from flax import nnx

import primer_search
from primer_search.models.export import API, Provenance, export_source
from primer_search.models.export.exported_module import load_source
from primer_search.primitives.programs.library import LIBRARY, get, native_unit

EXAMPLES = Path(primer_search.__file__).parent / "examples"
EXPORTED: dict[str, API] = {"exported_primer_ez.py": "nnx", "exported_primer_ez_linen.py": "linen"}
RUN = sorted(file.name for file in EXAMPLES.glob("*.py") if file.name not in EXPORTED)


@cache
def printed_by(name: str) -> str:
    """What an example prints; every warning, of any library, is an error."""
    if name == "replace_a_block.py" and importlib.util.find_spec("transformers") is None:
        pytest.skip("replace_a_block.py needs transformers: pip install 'transformers>=4.57,<5'")
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def losses_in(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"^step .* loss (\S+)$", text, re.MULTILINE)]


REPLACE_A_BLOCK = pytest.param("replace_a_block.py", marks=pytest.mark.slow)
"""It loads Hugging Face's transformers."""


@pytest.mark.parametrize("name", ["linen_decoder.py", "nnx_scan_stack.py", REPLACE_A_BLOCK])
def test_a_language_model_of_exported_or_handwritten_blocks_learns(name: str) -> None:
    losses = losses_in(printed_by(name))
    assert len(losses) == 6
    assert losses[-1] < 2.7 < 5 < losses[0], "bytes of source without any context cost about 3 nats"


@pytest.mark.parametrize("name", ["linen_decoder.py", REPLACE_A_BLOCK])
def test_a_trained_model_writes_on_from_its_prompt(name: str) -> None:
    written = printed_by(name).splitlines()[-1]
    assert written.startswith("b'    def __init__(self")
    assert len(eval(written)) > 60


def test_eight_devices_train_to_the_losses_of_one() -> None:
    lines = printed_by("sharded.py").splitlines()
    assert [line for line in lines if "has (32, 32) of a kernel of shape (32, 128)" in line] == lines[::2]
    differences = [float(line.split("at most ")[1].split()[0]) for line in lines[1::2]]
    assert len(differences) == 2
    assert max(differences) < 1e-5


def test_a_stack_of_blocks_that_trains_takes_less_than_60_lines() -> None:
    assert len((EXAMPLES / "nnx_scan_stack.py").read_text(encoding="utf-8").splitlines()) < 60


def test_examples_for_instruction_tuning_are_functions_and_their_docstrings() -> None:
    lines = [json.loads(line) for line in printed_by("docstring_examples.py").splitlines()]
    assert len(lines) > 2000
    assert {line["task"] for line in lines} == {"describe", "write"}
    for line in lines:
        written = line["targets"] if line["task"] == "write" else line["inputs"].split(": ", 1)[1]
        assert ast.parse(f"{written} ...").body, "the first line of a function"


def test_every_example_is_run_here() -> None:
    assert RUN == ["docstring_examples.py", "linen_decoder.py", "nnx_scan_stack.py", "replace_a_block.py", "sharded.py"]


@pytest.mark.parametrize("file", EXPORTED)
def test_exported_blocks_in_the_examples_are_as_the_exporter_writes_them(file: str) -> None:
    program = LIBRARY["PRIMER_EZ"]
    rendered = export_source(
        get("PRIMER_EZ"),
        name="PrimerEZBlock",
        unit=native_unit("PRIMER_EZ"),
        length=64,
        api=EXPORTED[file],
        provenance=Provenance("the library", "PRIMER_EZ", setting=program.reference),
        verified=True,
    )
    command = f"primer-search export PRIMER_EZ --api {EXPORTED[file]} --force -o examples/{file}"
    written = (EXAMPLES / file).read_text(encoding="utf-8")
    made_with = r"verified with JAX [\d.]+ and Flax [\d.]+"
    assert re.search(made_with, written)
    same = re.sub(made_with, "", written) == re.sub(made_with, "", rendered.source)
    assert same, f"the exporter has changed: {command}"


def test_the_model_in_the_readme_runs() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(class Decoder.*?)```", readme, re.DOTALL)
    assert code is not None
    block = load_source((EXAMPLES / "exported_primer_ez.py").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"nnx": nnx, "MyBlock": block}
    exec(code[1], names)
    decoder = names["Decoder"](16, 2, 3, nnx.Rngs(0))
    tokens = jnp.arange(12).reshape(2, 6)
    assert nnx.jit(lambda decoder, tokens: decoder(tokens))(decoder, tokens).shape == (2, 6, 256)
