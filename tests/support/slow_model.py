"""A language model written out in NumPy, float64, that reads one text at a time: the reference of losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from primer_search.models.language_model import LanguageModel

from .prefixes import reference

__all__ = ["text_losses"]


def text_losses(model: LanguageModel, parameters: Any, tokens: np.ndarray, prefix: int = 0) -> np.ndarray:
    """The loss of each token of one text after the first, of which the first `prefix` are read in both directions."""
    graph, width = model.block.graph, model.config.width
    embedding = np.asarray(parameters["embedding"], np.float64)
    inputs = tokens[:-1]
    rates = 10_000.0 ** (-np.arange(width // 2) / max(width // 2 - 1, 1))
    angles = np.arange(len(inputs))[:, None] * rates
    x = embedding[inputs] * np.sqrt(width) + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    ids, seen = np.zeros((1, len(inputs)), int), np.arange(len(inputs))[None] < prefix
    for layer in range(model.config.layers):
        learned: list[dict[str, np.ndarray]] = [{} for _ in graph.nodes]
        for spec in model.block.specs:
            learned[spec.node][spec.key] = np.asarray(parameters["blocks"][spec.name][layer], np.float64)
        x = reference(graph, learned, x[None], ids, seen)[0]
    centred = x - x.mean(axis=1, keepdims=True)
    normal = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + 1e-6)
    logits = (normal * parameters["final_norm"]["scale"] + parameters["final_norm"]["bias"]) @ embedding.T
    largest = logits.max(axis=1, keepdims=True)
    normalizer = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    return normalizer - logits[np.arange(len(inputs)), tokens[1:]]
