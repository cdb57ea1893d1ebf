"""`analyze` and `refine` from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import primer_search
from primer_search.models.checkpoint import load_weights, save_weights
from primer_search.primitives import UsageError
from primer_search.primitives.programs.library import get
from primer_search.tests.support.tiny_runs import write_text
from primer_search.tests.support.tiny_weights import SHAPE, drawn_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("weights")
    save_weights(place / "model", drawn_weights(get("PRIMER_EZ", 1, 2), SHAPE))
    write_text(place / "text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(place / "cache"))
        yield place


def test_a_model_is_analyzed_on_a_text_that_is_named(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    analysis = primer_search.analyze(
        folder / "model", tokens=1000, data=f"text:{folder / 'text'}", progress=lambda *step: steps.append(step)
    )
    assert [layer.layer for layer in analysis.layers] == [1, 2]
    assert steps == [(done, 7) for done in range(8)]
    assert not (folder / "model" / "analysis.json").exists()


def test_a_refined_model_is_written_only_if_asked_for(folder: Path) -> None:
    options = {"data": f"text:{folder / 'text'}", "tokens": 1000, "shares": (0.25,), "margin": 0.0}
    result = primer_search.refine(folder / "model", **options)  # type: ignore[arg-type]
    assert {path.name for path in folder.iterdir()} == {"model", "text", "cache"}
    assert result.kept
    written = primer_search.refine(folder / "model", folder / "refined", factored=True, **options)  # type: ignore[arg-type]
    assert written == result
    assert load_weights(folder / "refined").training["refined"]["criterion"] == "loss"


def test_one_window_gives_no_error_to_compare_a_gain_with(folder: Path) -> None:
    result = primer_search.refine(folder / "model", tokens=1000, data=f"text:{folder / 'text'}", shares=(0.25,))
    assert not result.kept


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="text"):
        primer_search.analyze(folder / "text")
