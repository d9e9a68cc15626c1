"""Turning the prompts of one object on one frame into input for a segmenter, and checking that they are valid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.segmenters.base import ObjectPrompts
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

MAX_SCRIBBLE_POINTS = 8
"""A scribble becomes at most this many points: segmenters take clicks, and more of them add nothing."""
MIN_SCRIBBLE_STEP_PX = 8.0
"""Least distance between these points along the stroke."""


def split_at_last_mask(prompts: Sequence[Prompt]) -> tuple[RunLengthMask | None, tuple[Prompt, ...]]:
    """The last mask among the prompts of one frame, or None, and the prompts after it (all where there is none)."""
    for position in reversed(range(len(prompts))):
        prompt = prompts[position]
        if isinstance(prompt, MaskPrompt):
            return prompt.mask, tuple(prompts[position + 1 :])
    return None, tuple(prompts)


def merge_prompts(prompts: Sequence[Prompt], *, clicks_only: bool = False) -> ObjectPrompts:
    """The clicks, scribbles and boxes of one object on one frame as points and one box.

    Several boxes become the box around them. A scribble becomes points along it.

    Args:
        prompts: of one object on one frame; masks are ignored.
        clicks_only: a scribble becomes its central point (thesis, Eq. 4.5), a box the point in its middle.
    """
    points = [prompt for prompt in prompts if isinstance(prompt, PointPrompt)]
    clicks_xy_px = [(point.x_px, point.y_px) for point in points]
    xy: list[NDArray[np.float32]] = [np.array(clicks_xy_px, np.float32).reshape(-1, 2)]
    positive = [np.array([point.positive for point in points], np.bool_)]
    for scribble in (prompt for prompt in prompts if isinstance(prompt, ScribblePrompt)):
        path = np.array(scribble.path_xy_px, np.float32)
        along = central_point(path)[None] if clicks_only else scribble_points(path)
        xy.append(along)
        positive.append(np.full(len(along), scribble.positive, np.bool_))
    box = _box_around([prompt.box_xyxy_px for prompt in prompts if isinstance(prompt, BoxPrompt)])
    if clicks_only and box is not None:
        xy.append(np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]], np.float32))
        positive.append(np.ones(1, np.bool_))
        box = None
    return ObjectPrompts(np.concatenate(xy), np.concatenate(positive), box)


def scribble_points(path_xy_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (K, 2) float32 evenly along a stroke (N, 2), with both its ends; a short stroke becomes one point."""
    steps = np.linalg.norm(np.diff(path_xy_px, axis=0), axis=1)
    length_px = float(steps.sum())
    n_points = int(np.clip(length_px // MIN_SCRIBBLE_STEP_PX + 1, 1, MAX_SCRIBBLE_POINTS))
    if n_points == 1:
        return central_point(path_xy_px)[None]
    at = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, length_px, n_points)
    return np.stack([np.interp(wanted, at, path_xy_px[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def central_point(path_xy_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """The point (2,) float32 of a stroke (N, 2) that is nearest to the mean of its points (thesis, Eq. 4.5)."""
    distances = np.linalg.norm(path_xy_px - path_xy_px.mean(axis=0), axis=1)
    return np.asarray(path_xy_px[int(distances.argmin())], np.float32)


def _box_around(boxes_xyxy_px: Sequence[tuple[float, ...]]) -> tuple[float, float, float, float] | None:
    if not boxes_xyxy_px:
        return None
    boxes = np.array(boxes_xyxy_px, np.float64)
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


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
            _check_points(prompt, [(prompt.x_px, prompt.y_px)], size_hw_px)
        elif isinstance(prompt, ScribblePrompt):
            if not prompt.path_xy_px:
                raise ValueError(f"the scribble of object {prompt.object_id} on frame {prompt.frame_index} is empty")
            _check_points(prompt, prompt.path_xy_px, size_hw_px)
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


def _check_points(prompt: Prompt, points_xy_px: Iterable[tuple[float, float]], size_hw_px: tuple[int, int]) -> None:
    height_px, width_px = size_hw_px
    if not all(0 <= x <= width_px and 0 <= y <= height_px for x, y in points_xy_px):
        raise ValueError(f"{prompt} is outside the image; x must be in [0, {width_px}], y in [0, {height_px}]")
