"""The text of exported files: imports, format, idioms, names and docstring."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from flax import nnx

from primer_search.benchmarks.code_size import lines_used, logical_lines
from primer_search.models.export import API, Provenance, export_source, verify_export
from primer_search.models.export.block_origin import lower_bound, lowest_version
from primer_search.models.export.exported_module import load_source
from primer_search.models.export.formatting import LINE_LENGTH
from primer_search.primitives import DNA, WorkFailedError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import LIBRARY, TRANSFORMER
from primer_search.tests.support.exported_programs import APIS, LENGTH, UNIT, small_program, source_of, valid_programs

ROOT = Path(__file__).parents[2]

BRANCHES_INSIDE = small_program(
    "a = norm h0\nb = heads a branches=4\nc = CONV_1X1 b width=8\nd = norm c\ny = MULTIPLY d c",
    norm="a = CONV_1X1 h0 width=8\nb = DCONV_7X1 a branches=2\nc = CONV_1X1 b width=8",
    heads="q = DCONV_3X1 h0 branches=2\nk = DCONV_3X1 h0 branches=4\nk2 = C_MUL k constant=half\n"
    "v = DCONV_15X1 h0 branches=2\nv2 = CONV_1X1 v width=8\nk3 = CONV_1X1 k2 width=8\nq3 = CONV_1X1 q width=8\n"
    "qk = T_MAT_MUL q3 k3\ne = EXP qk\nm = MASK e\ns = RED_SUM m\nw = DIVIDE m s\nr = MAT_MUL w v2\n"
    "t = DCONV_3X1 r branches=4\nu = CONV_1X1 t width=8",
)
"""Nested branches, each of which sees the same input."""

PROGRAMS = [
    BRANCHES_INSIDE,
    *(program.dna for program in LIBRARY.values()),
    *valid_programs(2, 12, mutate=True),
    *valid_programs(3, 40, mutate=False),
]


@APIS
@pytest.mark.parametrize("dna", PROGRAMS)
def test_the_file_imports_only_jax_flax_and_the_standard_library(dna: DNA, api: API) -> None:
    source = source_of(dna, api=api).source
    tree = ast.parse(source)
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= {"jax", "flax", "functools", "typing"}
    assert max(map(len, source.splitlines())) <= LINE_LENGTH


@APIS
def test_the_files_are_formatted_and_pass_the_linter(tmp_path: Path, api: API) -> None:
    pytest.importorskip("ruff")
    provenance = Provenance("laptop run", "c12", ("a " * 90, 'says "no" \\ '), 4.2, 4.3, 0.01, setting="x" * 130)
    for number, dna in enumerate(PROGRAMS):
        for flax_norms in (True, False):
            rendered = export_source(
                dna,
                name=f"Block{number}",
                provenance=provenance,
                unit=UNIT,
                length=LENGTH,
                length_dependent=True,
                api=api,
                flax_norms=flax_norms,
            )
            (tmp_path / f"block_{number}_{flax_norms}.py").write_text(rendered.source, encoding="utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
    for command in (["format", "--diff"], ["check", "--ignore", "D"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_transformer_reads_like_one() -> None:
    source = source_of(library.get("TRANSFORMER", UNIT)).source
    for line in (
        "self.query_projection = general(width, (heads, width // heads))",
        "self.output_projection = general((heads, width // heads), width, axis=(-2, -1))",
        "self.up = linear(width, 4 * width)",
        'scores = jnp.einsum("bqhd,bkhd->bhqk", queries * queries.shape[-1] ** -0.5, keys)',
        "weights = jax.nn.softmax(scores, where=causal_mask(scores, start, visibility))  # softmax attention",
        'return self.output_projection(jnp.einsum("bhqk,bkhd->bqhd", weights, values))',
        "return self.down(jax.nn.relu(self.up(x)))",
        "residual = x + self.self_attention(self.layer_norm(x), start, visibility)",
        "return residual + self.feed_forward(self.layer_norm_2(residual))",
    ):
        assert line in source


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        (
            "PRIMER_EZ",
            ["jnp.square(jax.nn.relu(self.up(x)))  # squared ReLU", "CausalDepthwiseConv(heads", "nnx.LayerNorm"],
        ),
        ("TRANSFORMER_PP", ["jax.nn.silu(", "nnx.RMSNorm(", "jax.nn.softmax("]),
        ("TRANSFORMER_GELU", ["jax.nn.gelu("]),
        ("PRIMER", ["jnp.tanh(", "nnx.LayerNorm(", "12 * width", "length: int"]),
    ],
)
def test_idioms_are_written_as_the_calls_that_a_reader_knows(name: str, calls: list[str]) -> None:
    source = source_of(LIBRARY[name].dna).source
    assert [call for call in calls if call not in source] == []


def test_an_idiom_whose_inner_value_is_read_elsewhere_is_written_as_primitives() -> None:
    dna = small_program(
        "m = RED_MEAN h0\nc = DIFFERENCE h0 m\ns = SQUARE c\nv = RED_MEAN s\nr = ABS_ROOT v\nd = DIVIDE c r\n"
        "y = ADD d v"
    )
    rendered = source_of(dna)
    assert "LayerNorm" not in rendered.source and "variance = " in rendered.source
    verify_export(rendered)


def test_calls_that_are_the_same_code_share_a_class() -> None:
    dna = small_program(
        "a = mix h0\nb = mix a\nc = ADD a b",
        mix="a = CONV_1X1 h0 width=16\nb = TANH a\nc = CONV_1X1 b width=8\nd = ABS c",
    )
    rendered = source_of(dna)
    assert rendered.source.count("class Mix") == 1 and "self.mix_2 = Mix(" in rendered.source
    verify_export(rendered)


def test_a_number_of_branches_that_the_program_fixes_is_not_an_argument() -> None:
    """The width of an operand from outside the branches does not depend on their number."""
    dna = small_program(
        "a = inner h0 branches=2\nb = CONV_1X1 a width=8", inner="a = CONV_1X1 h0 width=8\nb = ADD a h0"
    )
    rendered = source_of(dna)
    assert "branches" not in rendered.source.split("class Block")[1]
    verify_export(rendered)


def test_two_classes_with_the_same_name_are_numbered() -> None:
    dna = small_program(
        "a = norm h0\nb = norm_2 a\ny = ADD a b",
        norm="a = CONV_1X1 h0 width=16\nb = TANH a\nc = CONV_1X1 b width=8\nd = ABS c",
        norm_2="a = CONV_1X1 h0 width=16\nb = COS a\nc = CONV_1X1 b width=8\nd = SIN c",
    )
    source = source_of(dna).source
    assert "class Norm(" in source and "class Norm2(" in source


def test_only_the_final_output_of_an_attention_has_its_name() -> None:
    source = source_of(library.get("PRIMER", UNIT)).source
    assert "return self.output_projection(mixed)" in source
    assert "self.values_cache(values * -1.12, start)" in source


def test_dead_code_and_unused_helpers_are_left_out() -> None:
    dna = small_program("dead = LOG h0\nwide = CONV_31X1 h0 width=16\na = TANH h0")
    source = source_of(dna).source
    assert "return jnp.tanh(x)" in source
    assert not any(word in source for word in ("log", "Conv", "EPSILON", "promote_dtype", "functools", "History"))


def test_names_that_python_or_the_file_uses_are_avoided() -> None:
    names = {"jax": "a = CONV_1X1 h0 width=8\nb = TANH a\nc = MULTIPLY a b", "lambda": "a = ABS h0\nb = ADD a h0"}
    lines = [f"v{i} = {name} {'h0' if not i else f'v{i - 1}'}" for i, name in enumerate(names)]
    dna = assemble({"main": "\n".join([*lines, "z = ADD v0 v1"]), **names}, {"zero": 0.0}, (8,))
    renamed = replace(dna, subprograms=(*dna.subprograms[:-1], replace(dna.subprograms[-1], name='Ünï "x" \n\\')))
    for program in (dna, renamed):
        verify_export(source_of(program))


def test_the_docstring_states_the_origin_of_the_block() -> None:
    provenance = Provenance("monday", "c17", ("changed a constant",), 4.25, 4.5, 0.02, setting="python-stdlib, 60 s")
    text = export_source(TRANSFORMER, name="Best", provenance=provenance, unit=UNIT, length=LENGTH).source
    docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    for part in ("c17 of monday", "- changed a constant", "4.2500", "4.5000", "0.0200", "unconfirmed", "none yet"):
        assert part in docstring
    confirmed = replace(provenance, trainings=3, confirmation="3 fresh trainings: confirmed better than the baseline.")
    text = export_source(TRANSFORMER, name="Best", provenance=confirmed, unit=UNIT).source
    text = " ".join(text.split())
    assert "3 trainings. 3 fresh trainings: confirmed" in text and "unconfirmed" not in text


@APIS
def test_the_exported_primer_ez_is_at_most_a_tenth_longer_than_the_block_written_by_hand(
    api: API, tmp_path: Path
) -> None:
    file = tmp_path / "block.py"
    file.write_text(source_of(library.get("PRIMER_EZ", UNIT), api=api).source, encoding="utf-8")
    by_hand = lines_used(ROOT / "models" / api / "blocks.py", "PrimerEZBlock")
    assert logical_lines(file) <= 1.1 * by_hand


@APIS
def test_the_file_names_the_versions_it_was_made_with_and_the_lowest_of_the_package(api: API) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert f"jax>={lowest_version('jax')}" in dependencies and f"flax>={lowest_version('flax')}" in dependencies
    source = source_of(library.get("TRANSFORMER", UNIT), api=api).source
    assert (
        f"Versions: tested from JAX {lowest_version('jax')} and Flax {lowest_version('flax')} on; "
        f"made with JAX {version('jax')} and Flax {version('flax')}."
    ) in source


@pytest.mark.parametrize(
    "bound", [">=0.12", " >= 0.12", ">=0.12,<0.13", "<0.13,>=0.12; python_version > '3.11'", "[all]>=0.12"]
)
def test_the_lowest_version_is_found_in_any_requirement(bound: str) -> None:
    assert lower_bound("flax", ["flaxlib>=1", "flax-extras>=2", f"flax{bound}", "flax>=3"]) == "0.12"


@pytest.mark.parametrize("requirements", [[], ["flax"], ["flax<1; python_version >= '3.11'"], ["flaxlib>=1"]])
def test_a_dependency_without_a_lowest_version_is_named(requirements: list[str]) -> None:
    with pytest.raises(WorkFailedError, match=r"no lowest version .* of flax"):
        lower_bound("flax", requirements)


def test_an_nnx_without_data_is_one_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(library.get("TRANSFORMER", UNIT)).source
    monkeypatch.delattr(nnx, "data")
    with pytest.raises(ImportError, match=f"needs nnx.data, which Flax {lowest_version('flax')} has: pip install"):
        load_source(source)
