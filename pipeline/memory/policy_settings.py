"""Memory policies by name. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.memory.policies import MemoryPolicy

POLICIES = ("fifo", "readmem")


def check_policy(name: str, slots: int, least_similarity: float) -> None:
    """Check settings of a memory policy.

    Raises:
        ValueError: the name is unknown, or a number is out of its range.
    """
    if name not in POLICIES:
        raise ValueError(f"unknown memory policy {name!r}; known are {', '.join(POLICIES)}")
    if slots < 0:
        raise ValueError(f"a memory cannot have {slots} slots; expected 0 (prompted frames alone) or more")
    if not -1.0 <= least_similarity <= 1.0:
        raise ValueError(f"the lower similarity bound must be in [-1, 1], but got {least_similarity}")


def build_policy(name: str, slots: int, least_similarity: float) -> MemoryPolicy:
    """A policy with nothing in memory; ``least_similarity`` is for READMem.

    Raises:
        ValueError: see `check_policy`.
    """
    from pipeline.memory.policies import FirstInFirstOut, ReadMem

    check_policy(name, slots, least_similarity)
    return ReadMem(slots, least_similarity) if name == "readmem" else FirstInFirstOut(slots)
