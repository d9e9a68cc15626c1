"""Single frames of `ivos bench`: masks from prompts alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.datasets import ClipFiles, Truth
from pipeline.evaluation.metrics import region_similarity
from pipeline.evaluation.simulated_prompts import (
    ClickStrategy,
    correcting_clicks,
    exact_box,
    grid_points,
    innermost,
    random_points,
)
from pipeline.methods.base import ConcurrentVideo, Estimate, Interaction, Method, PerObjectVideo
from pipeline.prompting import merge_prompts
from pipeline.types import BoolMask, BoxPrompt, PointPrompt, Prompt
from pipeline.video.frames import FrameError

KINDS = ("box", "box_clicks", "click")
"""An exact box; the exact box with 8 positive and 1 negative click; one click on the pixel farthest from the border."""
CORRECTIONS = ("click_1", "click_2", "click_3")
"""The one click, and one, two and three corrective clicks after it."""


@dataclass(frozen=True)
class SingleFrameScore:
    """IoU with the truth, in [0, 1], of one object on one frame for each of `KINDS` and of `CORRECTIONS`."""

    sequence: str
    frame_index: int
    object_id: int
    iou: dict[str, float]


def score_single_frames(
    clip: ClipFiles, truth: Truth, method: Method, frame_indices: Sequence[int], seed: int
) -> Iterator[SingleFrameScore]:
    """Score the objects on some frames; frames the clip does not have, and objects not on a frame, are left out.

    Raises:
        FrameError: a frame cannot be read.
    """
    for frame_index in frame_indices:
        if not 0 <= frame_index < len(truth.labels):
            continue
        for object_id in truth.object_ids:
            mask = truth.mask(frame_index, object_id)
            if not mask.any():
                continue
            rng = np.random.default_rng([seed, zlib.crc32(clip.name.encode()), frame_index, object_id])
            # A fresh video for each frame: nothing may be remembered from the one before.
            video = method.open(clip.frames)
            asked = prompts_by_kind(mask, rng)
            found = {kind: _segmented(video, frame_index, prompts) for kind, prompts in asked.items()}
            iou = {kind: region_similarity(estimate.logits > 0, mask) for kind, estimate in found.items()}
            iou |= _corrected(video, mask, asked["click"], found["click"])
            yield SingleFrameScore(clip.name, frame_index, object_id, iou)


def prompts_by_kind(mask: BoolMask, rng: np.random.Generator) -> dict[str, list[Prompt]]:
    """The prompts of each of `KINDS` for a mask (H, W) that is not empty; as if of object 1 on frame 0."""
    box = BoxPrompt(1, 0, exact_box(mask))
    inside, outside = grid_points(mask, 8), random_points(~mask, 1, rng)
    x, y = innermost(mask)
    clicks = [PointPrompt(1, 0, *xy) for xy in inside] + [PointPrompt(1, 0, *xy, positive=False) for xy in outside]
    return {"box": [box], "box_clicks": [box, *clicks], "click": [PointPrompt(1, 0, x + 0.5, y + 0.5)]}


def _corrected(
    video: PerObjectVideo | ConcurrentVideo, mask: BoolMask, prompts: Sequence[Prompt], estimate: Estimate
) -> dict[str, float]:
    """IoU after each of `CORRECTIONS`: one more click than in ``prompts``, in the middle of the largest error.

    Raises:
        FrameError: the frame cannot be read.
    """
    given, found = list(prompts), {}
    for name in CORRECTIONS:
        clicks = correcting_clicks(estimate.logits > 0, mask, ClickStrategy.A3, max_clicks=1)
        if clicks:
            given += [PointPrompt(1, 0, each.x_px, each.y_px, positive=each.positive) for each in clicks]
            estimate = _segmented(video, estimate.frame_index, given)
        found[name] = region_similarity(estimate.logits > 0, mask)
    return found


def _segmented(video: PerObjectVideo | ConcurrentVideo, frame_index: int, prompts: Sequence[Prompt]) -> Estimate:
    """What a method makes of a frame from prompts alone; all of them together, as a session asks.

    Raises:
        FrameError: the frame cannot be read.
    """
    if not isinstance(video, ConcurrentVideo):
        merged = merge_prompts(prompts, clicks_only=video.clicks_only)
        return video.segment_prompted(frame_index, merged, prior=None, memory=None)
    found = [estimate for _, estimate in video.interact([Interaction(1, frame_index, merge_prompts(prompts))], [])]
    if not found:
        raise FrameError(frame_index, "cannot be read")
    return found[-1]
