"""What a session knows about one object: its prompts, a mask per frame, and which frames wait to be segmented again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline import ranges
from pipeline.segmenters.base import ObjectPrompts
from pipeline.soft_masks import SoftMask
from pipeline.types import BoxPrompt, FrameResult, MaskPrompt, PointPrompt, Prompt, RunLengthMask


@dataclass(frozen=True)
class Known:
    """The mask of one frame before other objects claim their pixels (``own``), and after (``shown``)."""

    own: RunLengthMask
    shown: RunLengthMask
    score: float
    prompted: bool
    soft: SoftMask | None = None

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, in bytes, without what Python adds."""
        soft_bytes = len(self.soft.data) if self.soft is not None else 0
        return len(self.own.counts) + len(self.shown.counts) + soft_bytes


@dataclass
class ObjectState:
    """Prompts and masks of one object. ``stale`` frames have no mask yet, or one that newer prompts put in question."""

    object_id: int
    n_frames: int
    prompts: dict[int, tuple[Prompt, ...]] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    before_prompts: dict[int, RunLengthMask] = field(default_factory=dict)
    """The propagated mask a frame had before its first prompt: clicks correct that one, however often they change."""
    round_index: int = 0
    """How many rounds changed this object's prompts."""
    interaction_frames: set[int] = field(default_factory=set)
    """Where the latest round prompted; results come outward from there."""

    def update_prompts(self, prompts: Iterable[Prompt]) -> bool:
        """Take the complete new set of prompts, mark what it puts in question, and say whether anything changed."""
        fresh: dict[int, list[Prompt]] = {}
        for prompt in prompts:
            fresh.setdefault(prompt.frame_index, []).append(prompt)
        new = {frame_index: tuple(given) for frame_index, given in fresh.items()}
        changed = {frame_index for frame_index, given in new.items() if self.prompts.get(frame_index) != given}
        lost = set(self.prompts) - set(new)
        if not changed and not lost:
            return False
        for frame_index in changed - set(self.prompts):
            known = self.known.get(frame_index)
            if known is not None:
                self.before_prompts[frame_index] = known.own
        for frame_index in lost:
            self.before_prompts.pop(frame_index, None)
        self.prompts = new
        self.round_index += 1
        self.interaction_frames = changed
        self.stale = {frame for frame in self.stale if new} | (changed | lost if new else set())
        if new:
            for frame_index in changed | lost:
                for side in ranges.restricted(frame_index, set(new) - {frame_index}, self.n_frames):
                    self.stale.update(side.frame_indices)
        return True

    def result(self, frame_index: int) -> FrameResult:
        """The known mask of a frame as others see it."""
        known = self.known[frame_index]
        return FrameResult(self.object_id, frame_index, known.shown, known.score, known.prompted)


def merge_prompts(prompts: Sequence[Prompt]) -> ObjectPrompts:
    """The clicks and boxes of one object on one frame as one; several boxes become the box around them."""
    points = [prompt for prompt in prompts if isinstance(prompt, PointPrompt)]
    boxes = np.array([prompt.box_xyxy_px for prompt in prompts if isinstance(prompt, BoxPrompt)], np.float64)
    box: tuple[float, float, float, float] | None = None
    if len(boxes):
        x0, y0 = boxes[:, :2].min(axis=0)
        x1, y1 = boxes[:, 2:].max(axis=0)
        box = (float(x0), float(y0), float(x1), float(y1))
    xy = np.array([(point.x_px, point.y_px) for point in points], np.float32).reshape(-1, 2)
    return ObjectPrompts(xy, np.array([point.positive for point in points], np.bool_), box)


def given_mask(prompts: Sequence[Prompt]) -> RunLengthMask | None:
    """The last mask among the prompts of one frame, or None."""
    masks = [prompt.mask for prompt in prompts if isinstance(prompt, MaskPrompt)]
    return masks[-1] if masks else None


def check_prompts(prompts: Iterable[Prompt], n_frames: int, size_hw_px: tuple[int, int]) -> None:
    """Check that every prompt lies in the clip and in the image.

    Raises:
        ValueError: one does not; the message names it and the valid range.
    """
    height_px, width_px = size_hw_px
    for prompt in prompts:
        if not 0 <= prompt.frame_index < n_frames:
            raise ValueError(f"{prompt} is on frame {prompt.frame_index}, but the clip has frames 0 to {n_frames - 1}")
        if isinstance(prompt, PointPrompt):
            if not (0 <= prompt.x_px <= width_px and 0 <= prompt.y_px <= height_px):
                raise ValueError(f"{prompt} is outside the image; x must be in [0, {width_px}], y in [0, {height_px}]")
        elif isinstance(prompt, BoxPrompt):
            x0, y0, x1, y1 = prompt.box_xyxy_px
            if not (0 <= x0 < x1 <= width_px and 0 <= y0 < y1 <= height_px):
                raise ValueError(
                    f"{prompt} is not a box in the image; it needs 0 <= x0 < x1 <= {width_px} "
                    f"and 0 <= y0 < y1 <= {height_px}"
                )
        elif (prompt.mask.height_px, prompt.mask.width_px) != (height_px, width_px):
            arrived = f"{prompt.mask.width_px}x{prompt.mask.height_px}"
            raise ValueError(
                f"the mask prompt of object {prompt.object_id} on frame {prompt.frame_index} is {arrived} px, "
                f"but the video is {width_px}x{height_px} px"
            )
