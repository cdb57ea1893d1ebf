"""Weights for tests: drawn ones of any program, and a run whose candidates train in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.models.checkpoint import Weights
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import language_model
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.runs.store import Store
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.tokenizer import Tokenizer
from primer_search.workers.protocol import Evaluation, TrialRequest

SHAPE = ModelConfig(layers=2, unit=1, length=8, vocabulary=300)

TIED = assemble(
    {"main": "s = T_MAT_MUL h0 h0\nb = SHIFT s\nm = MASK b\nr = MAT_MUL m h0"},
    {"zero": 0.0},
    (8,),
    length_dependent=True,
)
"""A causal program with a bias for each key, which ties it to one length."""

EXPLOSIVE = assemble(
    {"main": "big = C_MUL h0 constant=huge\nonce = SQUARE big\ntwice = SQUARE once\nmore = SQUARE twice"},
    {"huge": 1e30},
    (8,),
)
"""A program that is infinite before the first step."""


def drawn_weights(dna: DNA, shape: ModelConfig = SHAPE, seed: int = 0, **training: Any) -> Weights:
    """Untrained weights, none of them 0 or 1."""
    model = language_model(build_graph(dna, length_dependent=shape.length_dependent), shape)
    tokenizer = Tokenizer.train(["the cat sat on the mat, naïve café"], 280).to_json()
    return Weights(dna, shape, model.draw(np.random.default_rng(seed)), tokenizer, training)


def tiny_config(folder: Path) -> RunConfig:
    """The configuration of the tiny runs on a text in this folder."""
    text = folder / "text"
    source = f"text:{text if text.exists() else write_text(text)}"
    return replace(CONFIG, data=DataConfig(source, 50_000))


def tiny_run(folder: Path) -> Path:
    """A run of three candidates: the baseline, a copy of it that has trained, and one that explodes."""
    config, run = tiny_config(folder), folder / "run"
    run.mkdir()
    dataset = prepare_dataset(config.data, config.model.vocabulary)
    manifest = {
        "config": config.to_dict(),
        "seed": 0,
        "workers": 1,
        "baseline_dna": dna_to_json(BASELINE),
        "dataset": str(dataset),
        "dataset_hash": Dataset.open(dataset, verify=False).dataset_hash,
    }
    with Store.create(run, manifest) as store:
        store.add_candidate(Candidate(0, BASELINE, None, (), "seed"))
        store.add_candidate(Candidate(1, BASELINE, 0, ("Insert in main: nothing",), "child"))
        store.add_candidate(Candidate(2, EXPLOSIVE, 0, ("Insert in main: everything",), "explosive"))
        for number in (0, 1):
            store.start_trial(TrialRequest(number + 1, number, "", seed=0))
            store.finish_trial(number + 1, Evaluation("ok", "", 5.0, 2.0, train_seconds=1.0, wall_seconds=3.0))
    return run
