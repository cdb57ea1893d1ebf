"""The page of a candidate shows the trainings of its weights, finished and not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from primer_search.search.dashboard.served_run import open_runs
from primer_search.search.dashboard.server import create_app
from primer_search.search.weights.saved_weights import saved_trainings
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_job import plan_further_training, plan_training
from primer_search.search.weights.training_options import TrainingOptions
from primer_search.system.signals import Interrupted
from primer_search.tests.support.tiny_weights import tiny_run
from primer_search.workers.protocol import Progress


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """Return a run with weights of candidate 1, and a training from them that was interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        run = tiny_run(tmp_path_factory.mktemp("trained"))
        train_weights(plan_training(str(run), "1"))

        def interrupt(progress: Progress) -> None:
            if progress.phase == "train" and progress.spent > 30:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted):
            job = plan_further_training(str(run / "weights" / "1"), TrainingOptions("400steps"))
            train_weights(job, progress=interrupt)
        yield run


def test_trainings_are_read_from_their_folders(run: Path) -> None:
    first, further = saved_trainings(run / "weights" / "1")
    assert (first.name, first.finished, further.name, further.finished) == ("1", True, "1-further", False)
    assert first.last is not None
    assert first.last == (12, first.facts["loss_nats"])
    assert first.facts["steps"] == 12
    assert further.last is not None
    assert 0 < further.last[0] < 400
    assert saved_trainings(run / "weights" / "2") == ()
    (run / "weights" / "1-broken").mkdir()
    (run / "weights" / "1-broken" / "model.json").write_text("{")
    assert len(saved_trainings(run / "weights" / "1")) == 2


def test_the_page_shows_them_and_their_curves(run: Path) -> None:
    client = TestClient(create_app(open_runs([run])), base_url="http://127.0.0.1")
    page = client.get("/runs/run/candidates/1").text
    assert "Trainings of its weights" in page
    assert "weights/1-further<small>not finished</small>" in page
    assert "continues 1" not in page.partition("not finished")[0]
    figure = client.get("/runs/run/candidates/1/weights.json").json()
    assert [trace["name"] for trace in figure["data"]] == ["1", "1-further"]
    assert figure["data"][0]["x"] == [12]
    assert "Trainings of its weights" not in client.get("/runs/run/candidates/0").text
