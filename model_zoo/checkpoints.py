"""Weights read from files without executing anything in them, and fitted to a model with an error in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Weights = Mapping[str, torch.Tensor]


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another model; the message is one line."""


def read_weights(path: Path, what: str, *, inner_key: str = "") -> Weights:
    """A state dictionary from a file of torch (tensors only) or safetensors, on the CPU.

    Args:
        path: ``.safetensors`` is read as such, everything else with ``torch.load(weights_only=True)``.
        what: names the model for messages, such as "SAM".
        inner_key: where a published file keeps its state dictionary under a key of an outer dictionary.

    Raises:
        CheckpointError: the file is missing, may not be read, is damaged, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a {what} checkpoint at {path}, but there is no such file; check the path")
    weights = _load(path, what)
    if inner_key and isinstance(weights, Mapping) and isinstance(weights.get(inner_key), Mapping):
        weights = weights[inner_key]
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(
            f"expected a {what} checkpoint, a dictionary of tensors, but {path} holds "
            f"{_kind(weights)}; use the file as published by the model's authors"
        )
    return weights


def _load(path: Path, what: str) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise CheckpointError(f"the {what} checkpoint {path} may not be read; check the file's permissions") from error
    except Exception as error:  # A damaged pickle can raise nearly anything.
        size_mib = path.stat().st_size / 2**20
        raise CheckpointError(
            f"expected a {what} checkpoint, but {path} ({size_mib:.1f} MiB) cannot be read as one "
            f"({type(error).__name__}); it is damaged, incomplete or something else: download it again"
        ) from error


def mismatch(expected: Weights, weights: Weights) -> str:
    """What first keeps the weights from fitting, in a few words; empty when they fit."""
    for key, tensor in expected.items():
        if key not in weights:
            return f"{key} is missing"
        if weights[key].shape != tensor.shape:
            return f"{key} is {tuple(weights[key].shape)}, not {tuple(tensor.shape)}"
    surplus = [key for key in weights if key not in expected]
    return f"{surplus[0]} is not part of it" if surplus else ""


def load_into(model: torch.nn.Module, weights: Weights, what: str, path: Path) -> None:
    """Give a model its weights.

    Raises:
        CheckpointError: they belong to another model; the message says what first does not fit.
    """
    problem = mismatch(model.state_dict(), weights)
    if problem:
        raise CheckpointError(
            f"expected a checkpoint of {what}, but {path} holds another model's ({problem}); "
            "choose the model that belongs to the file, or another file"
        )
    model.load_state_dict(weights)


def with_weights(model: torch.nn.Module, checkpoint: Path | None, what: str, *, inner_key: str = "") -> None:
    """Give a model the weights of a file; None leaves it as it is.

    Raises:
        CheckpointError: the file is missing or damaged, or belongs to another model; see `read_weights`, `load_into`.
    """
    if checkpoint is not None:
        load_into(model, read_weights(checkpoint, what, inner_key=inner_key), what, checkpoint)


def _kind(loaded: object) -> str:
    if isinstance(loaded, Mapping):
        return "a dictionary with other things in it: " + ", ".join(str(key) for key in list(loaded)[:3])
    return f"a {type(loaded).__name__}"
