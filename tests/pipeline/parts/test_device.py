"""In which numbers networks compute on a device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from pipeline.methods.sam2_model.network import Sam2Network
from pipeline.parts.device import sixteen_bit_dtype
from pipeline.segmenters.sam import SamSegmenter
from tests.tiny_sam import build_tiny_sam
from tests.tiny_sam2 import build_tiny_sam2

NATIVE_SINCE = 8
"""Compute capability (major) of the first GPUs with bfloat16."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Any]:
    """Stands for GPU 1 of some compute capability, which is the parameter. Returns the devices that were selected."""
    selected: list[Any] = []

    def select(device: Any) -> nullcontext[None]:
        selected.append(torch.device(device))
        return nullcontext()

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return including_emulation or request.param >= NATIVE_SINCE

    monkeypatch.setattr(torch.cuda, "device", select)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    return selected


@pytest.mark.parametrize(
    ("gpu", "dtype"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)], indirect=["gpu"]
)
def test_bfloat16_only_where_the_gpu_has_it(gpu: list[Any], dtype: torch.dtype) -> None:
    assert sixteen_bit_dtype("cuda:1") is dtype
    assert gpu == [torch.device("cuda:1")]


def test_a_cpu_computes_in_bfloat16() -> None:
    assert sixteen_bit_dtype("cpu") is torch.bfloat16


@pytest.mark.parametrize("gpu", [7], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_networks_take_float16_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    sam, sam2 = build_tiny_sam(), build_tiny_sam2("sam2_1_hiera_tiny")
    for model in (sam, sam2):
        monkeypatch.setattr(model, "to", lambda _, model=model: model)
    assert SamSegmenter(sam, name="tiny", device="cuda:1")._autocast_dtype is torch.float16
    assert Sam2Network(sam2, name="tiny", device="cuda:1")._autocast_dtype is torch.float16
