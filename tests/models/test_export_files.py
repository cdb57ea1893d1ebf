"""Files of exported blocks: use without this package, overwriting, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from primer_search.models.export import write_export
from primer_search.primitives import UsageError, WorkFailedError
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.tests.support.exported_programs import ATTENTION, LENGTH, UNIT, small_program, source_of


def test_the_file_trains_a_step_where_this_package_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "block.py"
    write_export(path, ATTENTION, name="Attention", unit=UNIT, length=LENGTH)
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "primer_search":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
sys.path.insert(0, {str(tmp_path)!r})
import jax, jax.numpy as jnp, optax
from flax import nnx
from block import Attention
block = Attention({8 * UNIT}, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(block, optax.sgd(0.1), wrt=nnx.Param)
x = jnp.ones((1, 3, {8 * UNIT})) + jnp.arange({8 * UNIT})
loss, gradients = nnx.jit(nnx.value_and_grad(lambda block: jnp.mean(block(x) ** 2)))(block)
optimizer.update(block, gradients)
assert jnp.isfinite(loss)
assert not any(name.partition(".")[0] == "primer_search" for name in sys.modules)
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_a_file_is_overwritten_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "block.py"
    dna = small_program("a = TANH h0")
    write_export(path, dna, name="Block", unit=UNIT, length=LENGTH)
    first = path.read_text(encoding="utf-8")
    assert "1e-5 in float32" in " ".join(first.split())
    with pytest.raises(UsageError, match="exists"):
        write_export(path, dna, name="Other", unit=UNIT, length=LENGTH)
    assert path.read_text(encoding="utf-8") == first
    write_export(path, dna, name="Other", unit=UNIT, length=LENGTH, overwrite=True)
    assert "class Other(nnx.Module)" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["block.py"]


def test_nothing_is_written_if_verification_fails(tmp_path: Path) -> None:
    leaking = assemble({"main": "s = T_MAT_MUL h0 h0\nv = MAT_MUL s h0"}, {"zero": 0.0}, (8,))
    with pytest.raises(WorkFailedError):
        write_export(tmp_path / "block.py", leaking, name="Block", unit=UNIT, length=LENGTH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["my block", "class", "jnp", ""])
def test_a_name_that_cannot_be_the_class_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name the exported class"):
        source_of(TRANSFORMER, name=name)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path / "none")):
        write_export(tmp_path / "none" / "block.py", TRANSFORMER, name="Block", unit=UNIT, length=LENGTH)
