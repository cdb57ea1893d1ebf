"""Result of an analysis of a model's layers, and its file analysis.json next to the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError
from ...system.files import write_atomically
from .paired_difference import PairedDifference

__all__ = ["ANALYSIS", "LayerAnalysis", "ModelAnalysis", "read_analysis", "write_analysis"]

ANALYSIS = "analysis.json"
"""Name of the file next to the weights."""

FORMAT = 1
"""Version of the file's format."""


@dataclass(frozen=True, slots=True)
class LayerAnalysis:
    """One layer.

    Attributes:
        layer: number of the layer, from 1.
        linearity: score of a linear map from the layer's input to its output (see `models.analysis.linearity`); None
            if it is not finite.
        block_linearity: score of a linear map from the layer's input to what the block adds to it; None if it is
            not finite.
        cosine: mean cosine of a token's embeddings before and after the layer; None if it is not finite.
        removed: change of the loss if the layer is removed, in nats per token.
        linearized: change of the loss if the layer is replaced by its linear map, in nats per token.
    """

    layer: int
    linearity: float | None
    block_linearity: float | None
    cosine: float | None
    removed: PairedDifference
    linearized: PairedDifference


@dataclass(frozen=True, slots=True)
class ModelAnalysis:
    """All layers of a model.

    Attributes:
        name: name of the model.
        data: source of the text.
        dataset_hash: hash of the text.
        width: channels of the residual stream.
        fitted_tokens: number of tokens that the maps are fitted on.
        scored_tokens: number of other tokens, on which scores and losses are measured.
        loss_nats: loss of the unchanged model on the scored tokens, in nats per token.
        bits_per_nat: bits per byte of one nat per token; None if the token ids have no text.
        layers: the layers in their order.
    """

    name: str
    data: str
    dataset_hash: str
    width: int
    fitted_tokens: int
    scored_tokens: int
    loss_nats: float
    bits_per_nat: float | None
    layers: tuple[LayerAnalysis, ...]

    @property
    def bits_per_byte(self) -> float | None:
        """Loss of the unchanged model in bits per byte; None if the token ids have no text."""
        return self.in_bits(self.loss_nats)

    def in_bits(self, nats: float | None) -> float | None:
        """Return a loss, or a difference of losses, in bits per byte; None if the token ids have no text."""
        return None if nats is None or self.bits_per_nat is None else nats * self.bits_per_nat

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; changes of the loss are also in bits per byte."""
        layers = [
            {
                **asdict(layer),
                "removed_bits_per_byte": self.in_bits(layer.removed.mean),
                "linearized_bits_per_byte": self.in_bits(layer.linearized.mean),
            }
            for layer in self.layers
        ]
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {"format": FORMAT, **fields, "bits_per_byte": self.bits_per_byte, "layers": layers}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelAnalysis:
        """Invert `to_dict`.

        Raises:
            LookupError, TypeError: the values have another format.
        """
        if values["format"] != FORMAT:
            raise LookupError(f"format {values['format']}")
        layers = tuple(
            LayerAnalysis(
                *(layer[name] for name in ("layer", "linearity", "block_linearity", "cosine")),
                removed=PairedDifference(**layer["removed"]),
                linearized=PairedDifference(**layer["linearized"]),
            )
            for layer in values["layers"]
        )
        return ModelAnalysis(
            **{name: values[name] for name in ModelAnalysis.__slots__ if name != "layers"}, layers=layers
        )


def write_analysis(folder: Path, analysis: ModelAnalysis) -> Path:
    """Write an analysis next to the weights, and return its path.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = folder / ANALYSIS
    try:
        write_atomically(path, json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}; copy the weights to another folder"
        ) from error
    return path


def read_analysis(folder: Path) -> ModelAnalysis | None:
    """Return the analysis next to the weights; None if there is none, or another version of this package wrote it."""
    try:
        return ModelAnalysis.from_dict(json.loads((folder / ANALYSIS).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None
