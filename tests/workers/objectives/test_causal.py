"""The causal objective: the windows of the search."""

from __future__ import annotations

import numpy as np

from primer_search.workers.data.batches import TrainBatches, validation_batches
from primer_search.workers.objectives.causal import causal_objective
from primer_search.workers.objectives.objective import Objective

TEXT = np.arange(5_000, dtype=np.uint16) % 300


def test_causal_batches_are_the_windows_of_a_trial() -> None:
    objective: Objective = causal_objective(TEXT, TEXT[:900], 300, batch=4, length=32, seed=3, held_out_batches=2)
    windows = TrainBatches(TEXT, 4, 32, seed=3)
    for step in (0, 7, 90):
        batch = objective.batch_at(step)
        np.testing.assert_array_equal(batch.tokens, windows.batch_at(step))
        assert batch.weights is batch.segment_ids is batch.prefix is None
    held_out = [batch.tokens for batch in objective.held_out()]
    np.testing.assert_array_equal(held_out, validation_batches(TEXT[:900], 4, 32, 2))
    assert objective.epochs_seen(7) == windows.epochs_seen(7)
    assert (objective.name, objective.vocabulary) == ("causal", 300)
