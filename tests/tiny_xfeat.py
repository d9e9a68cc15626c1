"""ONNX files of one convolution, with XFeat's shapes or others, in the bytes of the format's protobuf.

They stand in where the published weights are missing, and for files that are another network.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_STRIDE_PX = 8
_SIDE_PX = 64


def write_like_xfeat(path: Path, *, input_hw: tuple[int, int] = (480, 640), output_name: str = "feats") -> Path:
    """Write a network from ``input`` (1, 1, H, W) float32 to one output (1, 64, H / 8, W / 8) float32.

    Its random filters answer to shapes of some 10 pixels and not to brightness, enough to follow a point on a photo.
    """
    filters = _smooth_filters(64)
    attributes = {
        "strides": [_STRIDE_PX] * 2,
        "pads": [(_SIDE_PX - _STRIDE_PX) // 2] * 4,
        "kernel_shape": [_SIDE_PX] * 2,
    }
    node = _text(1, "input") + _text(1, "filters") + _text(2, output_name) + _text(4, "Conv")
    for name, values in attributes.items():
        node += _part(5, _text(1, name) + b"".join(_number(8, value) for value in values) + _number(20, 7))
    weights = b"".join(_number(1, size) for size in filters.shape) + _number(2, 1) + _text(8, "filters")
    weights += _part(9, filters.astype("<f4").tobytes())
    grid = input_hw[0] // _STRIDE_PX, input_hw[1] // _STRIDE_PX
    graph = _part(1, node) + _text(2, "convolution") + _part(5, weights)
    graph += _part(11, _value("input", (1, 1, *input_hw))) + _part(12, _value(output_name, (1, len(filters), *grid)))
    path.write_bytes(_number(1, 8) + _part(8, _text(1, "") + _number(2, 17)) + _part(7, graph))
    return path


def _smooth_filters(n_filters: int) -> NDArray[np.float32]:
    """(n_filters, 1, side, side) float32."""
    rng = np.random.default_rng(5)
    noise = [cv2.GaussianBlur(rng.normal(size=(_SIDE_PX, _SIDE_PX)), (0, 0), 4.0) for _ in range(n_filters)]
    window = np.outer(np.hanning(_SIDE_PX), np.hanning(_SIDE_PX))
    filters = np.stack([(image - (image * window).sum() / window.sum()) * window for image in noise])
    return np.asarray(filters[:, None], np.float32)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, content: str) -> bytes:
    return _part(field, content.encode())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_part(1, _number(1, size)) for size in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, 1) + _part(2, sizes)))
