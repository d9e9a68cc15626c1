"""The device that networks run on, and how many threads torch may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MAX_TORCH_THREADS = 4


def limit_torch_threads() -> None:
    """Give torch few threads: more take the cores that answer other requests, and gain nothing on small networks."""
    import torch

    torch.set_num_threads(max(1, min(MAX_TORCH_THREADS, (os.cpu_count() or 1) // 2)))


def resolve_device(device: str) -> str:
    """The torch device to use; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        ValueError: the device is malformed or not on this machine.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    usable = {"cpu": True, "cuda": cuda, "mps": mps}.get(kind, False)
    if not usable:
        raise ValueError(f"device {device!r} cannot be used on this machine; use auto or cpu")
    return device


def sixteen_bit_dtype(device: str | torch.device) -> torch.dtype:
    """The type for networks that compute in 16 bits: bfloat16, but float16 on a CUDA device that only emulates it.

    GPUs before Ampere have no bfloat16: torch converts every number to float32 and back, which is slower than float32.

    Args:
        device: a torch device.
    """
    import torch

    if torch.device(device).type != "cuda":
        return torch.bfloat16
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16
