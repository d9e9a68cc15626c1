"""Settings of the methods that find all objects together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.memory.policy_settings import check_policy

if TYPE_CHECKING:
    from pipeline.methods.common.video_state import VideoState
    from pipeline.methods.concurrent.memory import ConcurrentMemory


@dataclass(frozen=True)
class ConcurrentSettings:
    """Settings of a concurrent propagation.

    Attributes:
        positive_points: positive points per object that ask the segmenter for a mask where the object is expected.
        negative_points: negative points per object, placed outside the expected mask.
        readout_weight: weight, 0 or more, of the logits read from the memory when they are added to a mask's logits.
        last_frames: how many of its latest frames a pass keeps in memory. 0 keeps none: the mask carried along the
            optical flow already says what they would.
        interval_frames: offer one frame in every ``interval_frames`` to the memory of the pass; 0 offers none.
        memory_policy: which of the offered frames stay in memory: ``fifo`` (the latest) or ``readmem`` (the most
            diverse).
        memory_slots: how many offered frames the memory keeps, besides the prompted frames.
        memory_similarity: READMem's lower similarity bound, in [-1, 1]: an object that looks less similar to every
            prompted frame than this is not stored.
        key_cells: cells of the memory along the longer side of a frame, at most.
        read_frames: how many prompted frames of an object are read, the nearest in time.
        temperature: temperature of the memory's softmax, at least 0.03.
        memory_mib: upper bound in MiB of the prompted frames' keys and values in one video.
        refinement_iterations: further decoding iterations on a propagated frame.
        prompted_refinements: further decoding iterations on a prompted frame, once it has seen the other prompted
            frames.
        flow_long_side_px: longer side, in pixels, of the images from which the optical flow to the next frame is
            computed.
        frames_ahead: how many frames are embedded in the background before they are needed; 0 embeds none ahead.
        find_lost: drop a mask that the memory contradicts, and look for the lost object then. It counts as found where
            a mask looks much more like the object than anything else did.
    """

    positive_points: int = 3
    negative_points: int = 1
    readout_weight: float = 0.5
    last_frames: int = 0
    interval_frames: int = 5
    memory_policy: str = "fifo"
    memory_slots: int = 3
    memory_similarity: float = 0.5
    key_cells: int = 54
    read_frames: int = 6
    temperature: float = 0.035
    memory_mib: float = 64.0
    refinement_iterations: int = 0
    prompted_refinements: int = 3
    flow_long_side_px: int = 428
    frames_ahead: int = 2
    find_lost: bool = True

    def __post_init__(self) -> None:
        check_policy(self.memory_policy, self.memory_slots, self.memory_similarity)


NewMemory = Callable[["VideoState", ConcurrentSettings], "ConcurrentMemory"]
"""Makes the empty memory of a video."""


def new_concurrent_memory(state: VideoState, settings: ConcurrentSettings) -> ConcurrentMemory:
    """An empty memory of a video; torch is imported only here."""
    from pipeline.methods.concurrent.memory import ConcurrentMemory, MemorySettings

    s = settings
    return ConcurrentMemory(state, MemorySettings(s.key_cells, s.read_frames, s.temperature, s.memory_mib))
