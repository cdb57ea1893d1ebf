"""The tutorial notebook runs from its first cell to its last, with a shorter search."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import primer_search

NOTEBOOK = Path(primer_search.__file__).parent / "docs" / "tutorial.ipynb"
PARAMETERS = 'BUDGET = "10m"\nENOUGH = 1\nSTEPS = 3\nRUN_DIR = "run"'


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's client
def test_the_tutorial_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    names = [line.partition(" = ")[0] for line in parameters.source.splitlines()]
    assert names == [line.partition(" = ")[0] for line in PARAMETERS.splitlines()]
    parameters.source = PARAMETERS
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "candidate 0: ok" in printed
    assert "operations" in printed
    figures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(figures) == 2


def test_the_notebook_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
