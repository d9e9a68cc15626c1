"""Embeddings of networks as bytes in the safetensors format. Unlike with pickle, reading them runs no code."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_HEADER_SIZE_BYTES = 8
_NOTES_KEY = "notes"
_VALUES_PER_TENSOR = 64


class SerializableEmbeddings:
    """Base class that makes a network's embeddings storable, see `pipeline.embeddings.cache.StorableEmbeddings`.

    An embedding is a dataclass whose fields are tensors in main memory, tuples of them, or tuples of numbers.
    """

    _embedding_type: type[Any]
    _model: Any

    @property
    def name(self) -> str:
        """Names the network and its precision."""
        raise NotImplementedError

    @cached_property
    def stored_as(self) -> str:
        """The name and a digest of the weights."""
        return f"{self.name}|{weights_digest(self._model)}"

    def pack(self, embedding: Any) -> bytes:
        """Turn an embedding into bytes."""
        tensors: dict[str, torch.Tensor] = {}
        notes: dict[str, Any] = {}
        for name, part in vars(embedding).items():
            if isinstance(part, torch.Tensor):
                tensors[name] = part.contiguous()
            elif isinstance(part[0], torch.Tensor):
                tensors |= {f"{name}.{place}": each.contiguous() for place, each in enumerate(part)}
                notes[name] = len(part)
            else:
                notes[name] = list(part)
        return bytes(save(tensors, {_NOTES_KEY: json.dumps(notes)}))

    def unpack(self, data: bytes) -> Any:
        """Turn bytes from `pack` into the embedding again.

        Raises:
            ValueError: the bytes are not what `pack` gave.
        """
        try:
            header_end = _HEADER_SIZE_BYTES + int.from_bytes(data[:_HEADER_SIZE_BYTES], "little")
            header = json.loads(data[_HEADER_SIZE_BYTES:header_end])
            tensors, notes = load(data), json.loads(header["__metadata__"][_NOTES_KEY])
            parts = {field.name: _part(field.name, tensors, notes) for field in fields(self._embedding_type)}
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            expected = self._embedding_type.__name__
            raise ValueError(f"expected a packed {expected}, but got {len(data)} bytes of something else") from error
        return self._embedding_type(**parts)


def _part(name: str, tensors: dict[str, torch.Tensor], notes: dict[str, Any]) -> Any:
    if name in tensors:
        return tensors[name]
    note = notes[name]
    return tuple(note) if isinstance(note, list) else tuple(tensors[f"{name}.{place}"] for place in range(note))


def weights_digest(model: torch.nn.Module) -> str:
    """A digest of a network's weights: over names, sizes and some values of every tensor."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // _VALUES_PER_TENSOR)].to("cpu", torch.float64)
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()
