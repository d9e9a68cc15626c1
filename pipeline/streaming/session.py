"""Segmentation of a video while it arrives: one pass, each frame once, no future frames (thesis, 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import numpy as np

from pipeline.masks import moved_to, saturated_logits
from pipeline.methods.base import Anchor, Interaction, Method, OnlineVideo
from pipeline.methods.choice import online_methods
from pipeline.prompting import check_prompts, merge_prompts, split_at_last_mask
from pipeline.segmenters.base import FloatMap
from pipeline.session.object_state import FrameMask
from pipeline.session.propagation import AccumulatedUncertainty
from pipeline.streaming.session_state import FrameBuffer, HelpRequest, NewestFrame, OnlineFrame, TrackedObjects
from pipeline.types import BoolMask, FrameRGB, PointPrompt, Prompt, RunLengthMask

__all__ = ["ClickMeans", "HelpRequest", "OnlineFrame", "OnlineSession"]


class ClickMeans(str, Enum):
    """How a single positive click on an object that already has a mask is interpreted.

    ``WHERE``: the click says where the object is. On the current mask it confirms that mask. Beside it, the last mask
    found without a request for help is moved to the click, and the method searches for the object from there.

    ``NEW_MASK``: the current mask is wrong. The segmenter makes a new mask from the click alone (thesis, 6.4.4). Use
    it with segmenters that make good masks from single clicks.
    """

    WHERE = "where"
    NEW_MASK = "new-mask"


class OnlineSession:
    """One pass over a video that arrives frame by frame. Not thread-safe.

    Works with the methods of `pipeline.methods.choice.online_methods`. Time per frame and memory do not grow with the
    number of frames. Of the frames, the newest two and, within bounds, the prompted ones are kept; of the masks, those
    of the newest frame.
    """

    def __init__(
        self,
        method: Method,
        *,
        prompted_kept: int = 4,
        prompted_mib: float = 256.0,
        click_means: ClickMeans = ClickMeans.WHERE,
    ) -> None:
        """Start before the first frame.

        Args:
            method: segments the frames.
            prompted_kept: of an object's prompted frames, the first and this many of the newest are kept.
            prompted_mib: bound of the images of all prompted frames. Beyond it the oldest are dropped, whatever
                ``prompted_kept`` says; the newest frame always stays.
            click_means: how a single positive click is interpreted, see `correct`.

        Raises:
            ValueError: the method cannot work online, or a bound is out of range.
        """
        self._frames = FrameBuffer()
        self._objects = TrackedObjects(self._frames, prompted_kept, prompted_mib)
        video = method.open(self._frames)
        if not isinstance(video, OnlineVideo):
            raise ValueError(
                f"{type(method).__name__} cannot follow a video while it arrives; the methods that can are "
                f"{', '.join(online_methods())}"
            )
        self._video: OnlineVideo = video
        self._memory: dict[int, Any] = {}
        self._click_means = click_means
        self._newest = NewestFrame.without_masks(self._frames)

    @property
    def n_frames(self) -> int:
        """The number of frames fed; the newest has the index ``n_frames - 1``."""
        return len(self._frames)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of all objects so far, ascending."""
        return tuple(sorted(self._objects.by_id))

    @property
    def held_bytes(self) -> int:
        """Memory of frames, masks and the method's memory, in bytes, without the shared embeddings."""
        masks = self._objects.held_bytes + self._newest.store.held_bytes()
        return self._frames.held_bytes + masks + self._video.held_bytes

    def feed(self, image: FrameRGB | None, prompts: Sequence[Prompt] = ()) -> OnlineFrame:
        """Segment the next frame, and apply the prompts on it.

        Args:
            image: (H, W, 3) uint8 RGB, of the same size for all frames; the caller must not write to it any more. None
                for a frame that is missing or unreadable.
            prompts: on this frame: their ``frame_index`` is the number of frames fed before.

        Raises:
            ValueError: a prompt is on another frame, outside the image or on a missing frame, or the image has another
                size or type; the session is unchanged then.
        """
        if image is not None:
            self._frames.check(image)
        _check(prompts, self.n_frames, None if image is None else (image.shape[0], image.shape[1]))
        previous = self._frames.newest
        self._frames.add(image)
        self._newest = NewestFrame.without_masks(self._frames)
        if image is None:
            return self._newest.result()
        if previous is not None and previous not in self._frames.kept:
            self._video.release_frame(previous)
        self._propagate()
        if prompts:
            self._apply(prompts)
        return self._newest.result()

    def correct(self, prompts: Sequence[Prompt]) -> OnlineFrame:
        """Correct objects on the newest frame, or start new ones there. Later frames continue from the new masks.

        Prompts add to those that the frame has. A single positive click is interpreted according to `ClickMeans`; other
        prompts correct the current mask.

        Returns:
            All results of the frame, without requests for the corrected objects.

        Raises:
            ValueError: no frame was fed yet, the newest one is missing, or a prompt is on another frame or outside it;
                the session is unchanged then.
        """
        if not self.n_frames:
            raise ValueError("prompts arrived before the first frame; feed it first, or with them")
        is_readable = self._frames.newest == self.n_frames - 1
        _check(prompts, self.n_frames - 1, self._frames.size_hw_px if is_readable else None)
        if prompts:
            self._apply(prompts)
        return self._newest.result()

    def _propagate(self) -> None:
        """Propagate all objects to the newest frame."""
        objects = [each for _, each in sorted(self._objects.by_id.items())]
        if not objects:
            return
        found = self._video.step(self._newest.frame_index, [each.pass_ for each in objects], self._memory)
        estimates = {each.object_id: estimate for each, estimate in zip(objects, found, strict=True)}
        self._newest.set_masks(
            {each.object_id: each.uncertainty.next_mask(estimates[each.object_id]) for each in objects}
        )
        self._newest.set_estimates(estimates)
        for each in objects:
            if not estimates[each.object_id].wants_help:
                each.set_reliable_mask(self._newest.propagated[each.object_id])

    def _apply(self, prompts: Sequence[Prompt]) -> None:
        """Apply prompts on the newest frame: update masks and memory; passes continue from there (6.4.5, IDU)."""
        object_ids = sorted({prompt.object_id for prompt in prompts})
        for object_id in object_ids:
            self._newest.add_prompts(object_id, [prompt for prompt in prompts if prompt.object_id == object_id])
        clicks = {object_id: click for object_id in object_ids if (click := self._single_click(object_id))}
        located: set[int] = set()
        if self._click_means is ClickMeans.WHERE:
            located = {object_id for object_id, click in clicks.items() if self._locate(click)}
        self._segment([object_id for object_id in object_ids if object_id not in located])
        for object_id in clicks.keys() - located:
            anchor = Anchor(self._newest.frame_index, self._newest.mask(object_id).raw.decode())
            self._video.continue_from(self._objects.by_id[object_id].pass_, anchor, None)
        self._learn([object_id for object_id in object_ids if object_id not in clicks])

    def _locate(self, click: PointPrompt) -> bool:
        """Use a click as the place of its object; False if that gives no mask at the click."""
        newest, each = self._newest, self._objects.by_id[click.object_id]
        if _covers(newest.propagated[click.object_id].decode(), click):
            newest.set_masks({click.object_id: replace(newest.mask(click.object_id), prompted=True)})
        elif each.reliable_mask is None:
            return False
        else:
            expected = moved_to(each.reliable_mask.decode(), click.x_px, click.y_px)
            estimate = self._video.relocate(newest.frame_index, each.pass_, expected)
            if not _covers(np.asarray(estimate.logits > 0), click):
                return False
            mask = FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)
            newest.set_masks({click.object_id: mask})
            # Further prompts on the frame correct this mask.
            newest.propagated[click.object_id] = mask.raw
        each.uncertainty = AccumulatedUncertainty()
        return True

    def _segment(self, object_ids: Sequence[int]) -> None:
        """Set the masks of prompted objects on the newest frame."""
        frame_index, interactions = self._newest.frame_index, []
        for object_id in object_ids:
            given, prompts = split_at_last_mask(self._newest.prompts(object_id))
            if given is not None and not prompts:
                self._newest.set_masks({object_id: FrameMask.from_person(given)})
                continue
            mask_input = self._mask_input(object_id, given, prompts)
            interactions.append(Interaction(object_id, frame_index, merge_prompts(prompts), mask_input))
        if not interactions:
            return
        known = [each for object_id in object_ids if (each := self._objects.by_id.get(object_id))]
        rounds = [each.round_input(without=frame_index) for each in known]
        for interaction, estimate in self._video.interact(interactions, [each for each in rounds if each.anchors]):
            mask = FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)
            self._newest.set_masks({interaction.object_id: mask})

    def _learn(self, object_ids: Sequence[int]) -> None:
        """Add the masks of prompted objects on the newest frame to the memory, and let their passes continue there."""
        frame_index = self._newest.frame_index
        for object_id in object_ids:
            merged = merge_prompts(split_at_last_mask(self._newest.prompts(object_id))[1])
            self._objects.add_prompted(object_id, frame_index, self._newest.mask(object_id).raw, merged)
        for dropped in self._objects.drop_excess(frame_index):
            self._video.release_frame(dropped)
        prompted = [self._objects.by_id[object_id] for object_id in object_ids]
        rounds = [each.round_input() for each in prompted]
        self._memory.update(self._video.begin_round(rounds))
        for each, round_input in zip(prompted, rounds, strict=True):
            newest = next(anchor for anchor in round_input.anchors if anchor.frame_index == frame_index)
            if each.pass_ is None:
                each.pass_ = self._video.start_pass(each.object_id, newest, self._memory)
            else:
                self._video.continue_from(each.pass_, newest, self._memory)

    def _single_click(self, object_id: int) -> PointPrompt | None:
        """The click, if one positive click is the only prompt of a propagated object on the newest frame."""
        return _only_click(self._newest.prompts(object_id)) if object_id in self._newest.propagated else None

    def _mask_input(self, object_id: int, given: RunLengthMask | None, prompts: Sequence[Prompt]) -> FloatMap | None:
        """The mask that the prompts correct, as logits (H, W); None if they make a new one."""
        before = given or self._newest.propagated.get(object_id)
        if before is None or not before.area_px:
            return None
        if given is None and _only_click(prompts) is not None:
            return None
        return saturated_logits(before.decode())


def _only_click(prompts: Sequence[Prompt]) -> PointPrompt | None:
    """The positive click, if it is the only prompt."""
    only = prompts[0] if len(prompts) == 1 else None
    return only if isinstance(only, PointPrompt) and only.positive else None


def _covers(mask: BoolMask, click: PointPrompt) -> bool:
    """Whether a click is on a mask (H, W)."""
    row, column = min(int(click.y_px), mask.shape[0] - 1), min(int(click.x_px), mask.shape[1] - 1)
    return bool(mask[row, column])


def _check(prompts: Sequence[Prompt], frame_index: int, size_hw_px: tuple[int, int] | None) -> None:
    """Check that all prompts are on one frame of this size; None for a missing frame.

    Raises:
        ValueError: one is not.
    """
    others = sorted({prompt.frame_index for prompt in prompts} - {frame_index})
    if others:
        raise ValueError(
            f"prompts on frames {', '.join(map(str, others))} arrived, but only the frame {frame_index} can be "
            "prompted now; give prompts with their frame, or before the next one"
        )
    if size_hw_px is not None:
        check_prompts(prompts, frame_index + 1, size_hw_px)
    elif prompts:
        raise ValueError(f"frame {frame_index} is missing, so nothing can be prompted on it; prompt the next one")
