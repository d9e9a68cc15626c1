"""ONNX files with the inputs and outputs of OpenCV's network trackers, which follow the one red thing they see.

They stand in where the published weights are missing, and show that the adapters hand over what OpenCV expects. The few
fields of the format that they need are encoded here, so that the package onnx is not.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INTS = 1, 7


def write_nanotrack(folder: Path) -> tuple[Path, Path]:
    """A backbone and a head as `cv2.TrackerNano` reads them: redness in cells of 16 px, and where it is like before."""
    backbone, head = folder / "nanotrack_backbone_sim.onnx", folder / "nanotrack_head_sim.onnx"
    # From RGB (1, 3, S, S) in [0, 255]; cell k is centred at pixel 16 k - 1, as in OpenCV's grid.
    nodes = [
        *_conv("input", "difference", np.array([1, -1, 0]).reshape(1, 3, 1, 1) / 255),
        _node("Relu", ["difference"], "red"),
        *_conv("red", "output", np.full((1, 1, 15, 15), 1 / 225), stride=16, pads=(8, 8, 0, 0)),
    ]
    _write(backbone, nodes, {"input": (1, 3, 255, 255)}, ["output"])
    nodes = [
        *_conv("input2", "spread", np.full((1, 1, 5, 5), 1 / 25), pads=(2, 2, 2, 2)),
        *_conv("input1", "usual", np.full((1, 1, 8, 8), -1 / 64)),
        _node("Add", ["spread", "usual"], "likeness"),
        *_conv("likeness", "output1", np.array([0, 10]).reshape(2, 1, 1, 1)),
        *_conv("likeness", "output2", np.zeros((4, 1, 1, 1)), bias=32.0),
    ]
    _write(head, nodes, {"input1": (1, 1, 8, 8), "input2": (1, 1, 16, 16)}, ["output1", "output2"])
    return backbone, head


def write_vittrack(folder: Path) -> Path:
    """A network as `cv2.TrackerVit` reads it: centre probability, size and offset in cells of 16 px."""
    path = folder / "object_tracking_vittrack_2023sep.onnx"
    # From BGR; whether more or less red than green counts alike, as OpenCV's normalisation turns signs around.
    red = np.array([[0, -1, 1], [0, 1, -1]]).reshape(2, 3, 1, 1)
    nodes = [
        *_conv("search", "difference", red),
        _node("Relu", ["difference"], "red"),
        *_conv("red", "cells", np.full((1, 2, 16, 16), 1 / 256), stride=16),
        *_conv("cells", "spread", np.full((1, 1, 5, 5), 1 / 25), pads=(2, 2, 2, 2)),
        *_conv("template", "template_difference", red),
        _node("Relu", ["template_difference"], "template_red"),
        *_conv("template_red", "usual", np.full((1, 2, 128, 128), -1.2 / 128**2)),
        _node("Add", ["spread", "usual"], "likeness"),
        *_conv("likeness", "logit", np.full((1, 1, 1, 1), 8.0)),
        _node("Sigmoid", ["logit"], "output1"),
        *_conv("likeness", "output2", np.zeros((2, 1, 1, 1)), bias=0.25),
        *_conv("likeness", "output3", np.zeros((2, 1, 1, 1)), bias=0.5),
    ]
    _write(path, nodes, {"template": (1, 3, 128, 128), "search": (1, 3, 256, 256)}, ["output1", "output2", "output3"])
    return path


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A protobuf field: a number, or a text or message with its length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, inputs: list[str], output: str, **ints: tuple[int, ...]) -> bytes:
    attributes = b""
    for name, values in ints.items():
        listed = b"".join(_field(8, value) for value in values)
        attributes += _field(5, _field(1, name) + listed + _field(20, _INTS))
    names = b"".join(_field(1, name) for name in inputs)
    return _field(1, names + _field(2, output) + _field(3, output) + _field(4, kind) + attributes)


def _conv(
    source: str,
    output: str,
    weight: NDArray[np.float64],
    *,
    bias: float = 0.0,
    stride: int = 1,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> list[bytes]:
    """A convolution and its weights, as fields of a graph."""
    weights = _tensor(f"{output}_weight", weight), _tensor(f"{output}_bias", np.full(weight.shape[0], bias))
    kernel = (weight.shape[2], weight.shape[3])
    inputs = [source, f"{output}_weight", f"{output}_bias"]
    return [*weights, _node("Conv", inputs, output, kernel_shape=kernel, strides=(stride, stride), pads=pads)]


def _tensor(name: str, values: NDArray[np.float64]) -> bytes:
    dims = b"".join(_field(1, size) for size in values.shape)
    data = struct.pack(f"<{values.size}f", *values.ravel())
    return _field(5, dims + _field(2, _FLOAT) + _field(8, name) + _field(9, data))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dims)))


def _write(path: Path, fields: list[bytes], inputs: dict[str, tuple[int, ...]], outputs: list[str]) -> None:
    graph = b"".join(fields) + _field(2, "tiny")
    graph += b"".join(_field(11, _value(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value(name, ())) for name in outputs)
    path.write_bytes(_field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
