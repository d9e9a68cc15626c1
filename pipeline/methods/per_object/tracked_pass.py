"""One propagation pass of a tracked video, which says what it needs next, so that several passes can get it together.

A pass is a generator. It yields an `Estimate` when a frame is finished, and otherwise one of the needs below, for which
it is sent the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.methods.base import Anchor, Estimate, PropagationPass
from pipeline.methods.common.decoding import Decoded, ObjectMemory
from pipeline.methods.common.mask_flow import FlowFields, MaskFlow
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.per_object.restarts import RestartSettings
from pipeline.segmenters.base import ObjectPrompts
from pipeline.types import BoolMask


@dataclass(frozen=True)
class TrackNeed:
    """Prompts tracked from an anchor over a range that starts at its frame; the answer has one per frame.

    Attributes:
        frame_index: the next frame to segment.
        anchor: with the mask and prompts to track.
        frame_range: the frames to track through.
    """

    frame_index: int
    anchor: Anchor
    frame_range: range


@dataclass(frozen=True)
class DecodeNeed:
    """The mask of a frame; the answer is a `Decoded`, or None where the frame cannot be read.

    Attributes:
        frame_index: the frame.
        prompts: of the object on it.
        memory: of the object.
        flow: carries the object's mask to the frame, for segmenters that use such a mask; or None.
        cleared: whether the pass started where the object is not to be seen, and has not found it.
    """

    frame_index: int
    prompts: ObjectPrompts
    memory: ObjectMemory
    flow: MaskFlow | None
    cleared: bool


@dataclass(frozen=True)
class RestartNeed:
    """Where in a horizon to restart; the answer is a position in ``areas_px``.

    Attributes:
        frame_index: the last frame of the horizon.
        frame_indices: the frames of it that were segmented.
        areas_px: of their masks.
        first_area_px: of the mask that the pass started from.
    """

    frame_index: int
    frame_indices: tuple[int, ...]
    areas_px: tuple[int, ...]
    first_area_px: int


Need = TrackNeed | DecodeNeed | RestartNeed
Answer = list[ObjectPrompts] | Decoded | int | None
Steps = Generator[Estimate | Need, Answer, None]


class TrackedPass:
    """Follows one object from an anchor; see `PerObjectVideo.propagate`."""

    def __init__(
        self,
        given: PropagationPass,
        state: VideoState,
        fields: FlowFields,
        restart: RestartSettings,
        finish: Callable[[int, Decoded, ObjectMemory], Estimate],
    ) -> None:
        """Nothing is done yet.

        Args:
            given: the pass.
            state: of the video.
            fields: the optical flow between its frames.
            restart: when trackers restart.
            finish: makes the estimate of a frame and remembers it.
        """
        self._frames, self._state, self._fields = given.frame_indices, state, fields
        self._restart, self._finish = restart, finish
        self._memory: ObjectMemory = given.memory
        self._anchor = self._latest = given.anchor
        self._first_area_px = int(given.anchor.mask.sum())
        self._tracked_from: Anchor | None = None
        self._tracked: list[ObjectPrompts] = []

    def run(self) -> Steps:
        """Segment frame by frame; the trackers restart from a predicted mask as `RestartSettings` says."""
        frames, done = self._frames, 0
        length = max(1, len(frames)) if self._restart.variant == "never" else self._restart.horizon_frames
        while done < len(frames):
            part = frames[done : done + length]
            found: list[_Found] = []
            yield from self._follow(part, found)
            done += len(part)
            if self._restart.looks_back and found:
                segmented = tuple(each.frame_index for each in found)
                areas_px = tuple(int(each.mask.sum()) for each in found)
                chosen: Any = len(found) - 1
                if done < len(frames):
                    chosen = yield RestartNeed(part[-1], segmented, areas_px, self._first_area_px)
                    done = frames.index(segmented[chosen]) + 1
                del found[chosen + 1 :]
                self._memory = found[-1].memory
                yield from (each.estimate for each in found if each.estimate is not None)
            if found:
                self._latest = Anchor(found[-1].frame_index, found[-1].mask)
                self._anchor = self._latest if self._latest.mask.any() else self._anchor

    def _follow(self, part: range, found: list[_Found]) -> Steps:
        """Segment the frames between two restarts with prompts tracked from the anchor.

        The anchor is the latest frame that shows the object: nothing can be tracked from an empty mask.

        Args:
            part: the frames to segment.
            found: gets the last frame, or all of them while a restart may still reject some. Then their estimates are
                not yielded yet.
        """
        prompts: Any = yield from self._tracked_to(part)
        flow = None
        if self._state.segmenter.uses_mask_prior:
            flow = MaskFlow(self._fields)
            flow.start(self._latest.frame_index, self._latest.mask)
        cleared = not self._anchor.mask.any()
        for frame_index in part:
            asked = prompts[abs(frame_index - self._anchor.frame_index)]
            decoded: Any = yield DecodeNeed(frame_index, asked, self._memory, flow, cleared)
            if decoded is None:
                continue
            estimate: Estimate | None = self._finish(frame_index, decoded, self._memory)
            assert estimate is not None
            mask = np.asarray(estimate.logits > 0)
            if flow is not None:
                flow.start(frame_index, mask)
            if not self._restart.looks_back:
                found.clear()
                yield estimate
                # Of many passes that wait for each other none should keep logits of the frame's size.
                estimate = None
            embedding = self._state.embedding(frame_index)
            adapted = self._state.segmenter.adapt(self._memory.appearance, embedding, decoded.low_res_logits)
            self._memory = replace(self._memory, appearance=adapted)
            found.append(_Found(frame_index, mask, self._memory, estimate))

    def _tracked_to(self, part: range) -> Generator[Need, Answer, list[ObjectPrompts]]:
        """The prompts of every frame from the anchor's to the last of ``part``.

        From a lost object's anchor the trackers go twice as far as needed. So the frames they go through stay in
        proportion to the length of the pass: they are tracked again only when the distance has doubled.
        """
        start, step = self._anchor.frame_index, part.step
        needed = abs(part[-1] - start) + 1
        if self._tracked_from is not self._anchor:
            self._tracked_from, self._tracked = self._anchor, []
        if len(self._tracked) < needed:
            length = needed if not self._tracked else min(2 * needed, abs(self._frames[-1] - start) + 1)
            answer: Any = yield TrackNeed(part[0], self._anchor, range(start, start + step * length, step))
            self._tracked = answer
        return self._tracked


@dataclass(frozen=True)
class _Found:
    """A frame that is segmented.

    Attributes:
        frame_index: the frame.
        mask: (H, W) bool.
        memory: after the frame.
        estimate: None where it was yielded already.
    """

    frame_index: int
    mask: BoolMask
    memory: ObjectMemory
    estimate: Estimate | None
