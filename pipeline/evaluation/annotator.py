"""A simulated annotator: it sees the truth, chooses the frame of each round, and prompts there as a person might.

Source: I-PT, III-B and IV-B (papers/000 of the project): a box with an error of a few pixels, positive points on a grid
inside the object, negative points at random outside; round 1 on any frame, later rounds on the worst one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.clicks import ClickStrategy, correcting_clicks, first_click
from pipeline.evaluation.datasets import Truth
from pipeline.types import BoolMask, BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask


class Start(str, Enum):
    """How a run begins and goes on.

    ``mask``: round 1 is the truth of frame 0, later rounds are as in ``prompts``. ``prompts``: a box and points in
    every round. ``clicks``: clicks only, one per object in round 1, then on the errors.
    """

    MASK = "mask"
    PROMPTS = "prompts"
    CLICKS = "clicks"


class NextFrame(str, Enum):
    """Which frame rounds 2 and later prompt."""

    WORST = "worst"
    RANDOM = "random"


@dataclass(frozen=True)
class AnnotatorSettings:
    """What the annotator does. ``first_frame`` None is the best frame, see `best_frame`; ``seed`` fixes all chance."""

    start: Start = Start.PROMPTS
    next_frame: NextFrame = NextFrame.WORST
    first_frame: int | None = None
    n_positive: int = 8
    n_negative: int = 1
    box_noise_px: float = 4.0
    click_strategy: ClickStrategy = ClickStrategy.A3
    max_clicks: int = 3
    seed: int = 0


class Annotator:
    """Prompts for one clip, round by round; remembers which frames it has prompted.

    The same settings, clip name and masks give the same prompts, whatever other clips ran before.
    """

    def __init__(self, truth: Truth, clip_name: str, settings: AnnotatorSettings) -> None:
        self._truth, self._settings = truth, settings
        self._areas_px = truth.areas_px()
        self._chance = np.random.default_rng([settings.seed, zlib.crc32(clip_name.encode())])
        self._prompted: list[int] = []

    def first_frame(self) -> int:
        """The frame of round 1."""
        if self._settings.start is Start.MASK:
            return 0
        given = self._settings.first_frame
        return best_frame(self._areas_px) if given is None else given

    def next_frame(self, jf_per_frame: NDArray[np.float64]) -> int:
        """The frame of a later round.

        Frames with an object come before frames without, among them frames nobody has prompted before prompted ones
        (I-PT: the interaction frames vary in each round). Of these the worst by J&F, the earlier one where two are
        equal, or any of them at random.

        Args:
            jf_per_frame: J&F of every frame, the mean over objects, (T,).
        """
        frames = np.arange(len(jf_per_frame))
        with_object = self._areas_px.any(axis=1)
        fresh = ~np.isin(frames, self._prompted)
        candidates = next(c for c in (with_object & fresh, with_object) if c.any())
        if self._settings.next_frame is NextFrame.RANDOM:
            return int(self._chance.choice(frames[candidates]))
        return int(np.argmin(np.where(candidates, jf_per_frame, np.inf)))

    def prompts(self, frame_index: int, masks: dict[int, BoolMask] | None) -> list[Prompt]:
        """The prompts of a round on its frame.

        An object that is not on the frame gets no box, no points and no mask, but clicks on what is wrongly its own.

        Args:
            frame_index: from `first_frame` or `next_frame`.
            masks: the current mask of every object on this frame, (H, W) bool each; None in round 1.
        """
        self._prompted.append(frame_index)
        prompts: list[Prompt] = []
        for object_id in self._truth.object_ids:
            truth = self._truth.mask(frame_index, object_id)
            if self._settings.start is Start.CLICKS:
                prompts += self._clicks(frame_index, object_id, truth, None if masks is None else masks[object_id])
            elif self._settings.start is Start.MASK and masks is None:
                prompts += [MaskPrompt(object_id, frame_index, RunLengthMask.encode(truth))] if truth.any() else []
            else:
                prompts += self._box_and_points(frame_index, object_id, truth)
        return prompts

    def _box_and_points(self, frame_index: int, object_id: int, truth: BoolMask) -> list[Prompt]:
        if not truth.any():
            return []
        box = noisy_box(truth, self._settings.box_noise_px, self._chance)
        inside = grid_points(truth, self._settings.n_positive)
        outside = random_points(~truth, self._settings.n_negative, self._chance)
        return [
            BoxPrompt(object_id, frame_index, box),
            *(PointPrompt(object_id, frame_index, x, y) for x, y in inside),
            *(PointPrompt(object_id, frame_index, x, y, positive=False) for x, y in outside),
        ]

    def _clicks(self, frame_index: int, object_id: int, truth: BoolMask, mask: BoolMask | None) -> list[Prompt]:
        strategy = self._settings.click_strategy
        if mask is None:
            clicks = first_click(truth, strategy)
        else:
            clicks = correcting_clicks(mask, truth, strategy, self._settings.max_clicks)
        return [PointPrompt(object_id, frame_index, c.x_px, c.y_px, c.positive) for c in clicks]


def best_frame(areas_px: NDArray[np.int64]) -> int:
    """The frame that shows the objects best: most objects first, then the largest area of all together, then the first.

    Args:
        areas_px: pixels of every object on every frame, (T, O).
    """
    n_present = (areas_px > 0).sum(axis=1)
    return int(np.argmax(np.where(n_present == n_present.max(), areas_px.sum(axis=1), -1)))


def exact_box(mask: BoolMask) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 around a mask that is not empty; its right and lower edges lie behind the last pixel."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def noisy_box(mask: BoolMask, noise_px: float, chance: np.random.Generator) -> tuple[float, float, float, float]:
    """The exact box with every edge moved by a uniform error in [-noise_px, noise_px], clipped to the image.

    Where the error would leave no pixel of width or height, that pair of edges stays exact.
    """
    height_px, width_px = mask.shape
    exact = exact_box(mask)
    moved = np.add(exact, chance.uniform(-noise_px, noise_px, 4))
    x0, y0, x1, y1 = (float(v) for v in np.clip(moved, 0, (width_px, height_px, width_px, height_px)))
    if x1 - x0 < 1:
        x0, x1 = exact[0], exact[2]
    if y1 - y0 < 1:
        y0, y1 = exact[1], exact[3]
    return x0, y0, x1, y1


def grid_points(mask: BoolMask, n_points: int) -> list[tuple[float, float]]:
    """``n_points`` pixel centres x, y inside the mask on a square grid, or all of its pixels where there are fewer.

    The grid is the widest one with enough of its points inside; of more than enough, an even selection is taken.
    """
    ys, xs = np.nonzero(mask)
    n_points = min(n_points, len(xs))
    if n_points <= 0:
        return []
    for step_px in range(max(1, int(np.sqrt(len(xs) / n_points)) + 1), 0, -1):
        offset_px = step_px // 2
        on_grid = ((ys - ys.min()) % step_px == offset_px) & ((xs - xs.min()) % step_px == offset_px)
        if on_grid.sum() >= n_points:
            break
    xs, ys = xs[on_grid], ys[on_grid]
    chosen = np.linspace(0, len(xs) - 1, n_points).round().astype(int)
    return [(float(xs[i]) + 0.5, float(ys[i]) + 0.5) for i in chosen]


def random_points(mask: BoolMask, n_points: int, chance: np.random.Generator) -> list[tuple[float, float]]:
    """``n_points`` centres x, y of different pixels inside the mask, at random; all of them where there are fewer."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return []
    chosen = chance.choice(len(xs), size=min(n_points, len(xs)), replace=False)
    return [(float(xs[i]) + 0.5, float(ys[i]) + 0.5) for i in chosen]
