"""What a function that builds a part gets: weights, code and the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_zoo.store import ModelStore


@dataclass(frozen=True)
class PartContext:
    """Where weights are and which device to use.

    Attributes:
        store: the model zoo on this machine.
        device: a torch device, such as "cpu" or "cuda:0".
        checkpoint: the weights file named by the operator for the segmenter, or None.
        random_weights: build networks whose weights are not here with random ones: for timing and tests, never for
            masks.
    """

    store: ModelStore
    device: str = "cpu"
    checkpoint: Path | None = None
    random_weights: bool = False

    def weights(self, model: str, file_name: str = "") -> Path | None:
        """A model's weights file on this machine; None where random weights shall stand in for missing ones.

        Args:
            model: its name in the model zoo.
            file_name: one of its files; empty: the first.

        Raises:
            ValueError: the weights are not here; the message names the command that gets them.
        """
        if self.random_weights and not self.store.has(model):
            return None
        return self.store.file(model, file_name)

    def code(self, model: str) -> Path:
        """The folder with a model's official code on this machine; nothing can stand in for it.

        Raises:
            ValueError: it is not here; the message names the command that gets it.
        """
        return self.store.code(model)
