"""Objects followed while a video arrives: one pass, no frame twice, no future frames (thesis, 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import numpy as np

from pipeline.masks import moved_to, saturated_logits
from pipeline.methods import ONLINE_METHODS
from pipeline.methods.base import Anchor, Interaction, Method, OnlineVideo
from pipeline.prompting import check_prompts, merge_prompts, split_at_last_mask
from pipeline.segmenters.base import FloatMap
from pipeline.session.object_state import FrameMask
from pipeline.session.propagation import AccumulatedUncertainty
from pipeline.streaming.frames import OnlineFrames
from pipeline.streaming.newest_frame import HelpRequest, NewestFrame, OnlineFrame
from pipeline.streaming.objects import OnlineObjects
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
    """One pass over a video that arrives frame by frame. Not for several threads at once.

    Works with the methods that take all objects along together (`pipeline.methods.ONLINE_METHODS`). Time per frame and
    memory do not grow with the number of frames: of the frames themselves stay the newest two and, within bounds, those
    that were prompted; of the masks those of the newest frame.
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
            method: what segments.
            prompted_kept: of an object's prompted frames the first and this many of the newest stay known.
            prompted_mib: bound of the images of all prompted frames that are kept. Beyond it the oldest leave, whatever
                ``prompted_kept`` says; the newest frame stays in any case.
            click_means: what a single positive click says, see `correct`.

        Raises:
            ValueError: the method cannot work online, or a bound is out of range.
        """
        self._frames = OnlineFrames()
        self._objects = OnlineObjects(self._frames, prompted_kept, prompted_mib)
        video = method.open(self._frames)
        if not isinstance(video, OnlineVideo):
            raise ValueError(
                f"{type(method).__name__} cannot follow a video while it arrives; the methods that can are "
                f"{', '.join(ONLINE_METHODS)}"
            )
        self._video: OnlineVideo = video
        self._memory: dict[int, Any] = {}
        self._click_means = click_means
        self._newest = NewestFrame.of(self._frames)

    @property
    def n_frames(self) -> int:
        """How many frames were fed; the newest has the index ``n_frames - 1``."""
        return len(self._frames)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects begun so far."""
        return tuple(sorted(self._objects.by_id))

    @property
    def held_bytes(self) -> int:
        """Memory held beside the shared embeddings, in bytes: frames, masks, and what the method remembers."""
        masks = self._objects.held_bytes + self._newest.board.held_bytes()
        return self._frames.held_bytes + masks + self._video.held_bytes

    def feed(self, image: FrameRGB | None, prompts: Sequence[Prompt] = ()) -> OnlineFrame:
        """Take the next frame, segment it, and begin or correct the objects that are prompted on it.

        Args:
            image: (H, W, 3) uint8 RGB, all of the first one's size, not to be written to any more; None for a frame
                that is missing or unreadable.
            prompts: on this frame: their ``frame_index`` is the number of frames fed before.

        Raises:
            ValueError: a prompt is of another frame, outside the image, or on a missing one, or the image is of another
                size or kind; nothing was taken in then.
        """
        if image is not None:
            self._frames.check(image)
        _check(prompts, self.n_frames, None if image is None else (image.shape[0], image.shape[1]))
        past = self._frames.newest
        self._frames.add(image)
        if image is None:
            self._newest = NewestFrame.of(self._frames)
            return OnlineFrame(self.n_frames - 1, (), ())
        if past is not None and past not in self._frames.kept:
            self._video.release_frame(past)
        self._newest = NewestFrame.of(self._frames)
        self._step()
        if prompts:
            self._take(prompts)
        return self._newest.shown()

    def correct(self, prompts: Sequence[Prompt]) -> OnlineFrame:
        """Correct objects on the newest frame, or begin new ones there; all later frames go on from the new masks.

        Prompts add to those that the frame has already. `ClickMeans` says what a single positive click does; other
        prompts correct the mask that is there.

        Returns:
            The whole frame anew; requests of objects that were corrected are settled.

        Raises:
            ValueError: no frame was fed yet, the newest one is missing, or a prompt is of another frame or outside it;
                nothing was taken in then.
        """
        if not self.n_frames:
            raise ValueError("prompts arrived before the first frame; feed it first, or with them")
        is_here = self._frames.newest == self.n_frames - 1
        _check(prompts, self.n_frames - 1, self._frames.size_hw_px if is_here else None)
        if prompts:
            self._take(prompts)
        return self._newest.shown()

    def _step(self) -> None:
        """Follow all objects to the newest frame."""
        going = [each for _, each in sorted(self._objects.by_id.items())]
        if not going:
            return
        frame_index = self.n_frames - 1
        estimates = self._video.step(frame_index, [each.way for each in going], self._memory)
        found = {each.object_id: estimate for each, estimate in zip(going, estimates, strict=True)}
        self._newest.put({i: self._objects.by_id[i].doubt.next_mask(estimate) for i, estimate in found.items()})
        self._newest.note(found)
        for object_id, estimate in found.items():
            self._objects.by_id[object_id].found(self._newest.before[object_id], wants_help=estimate.wants_help)

    def _take(self, prompts: Sequence[Prompt]) -> None:
        """Take prompts on the newest frame: the memory learns the new masks, ways go on from them (6.4.5, IDU)."""
        frame_index = self.n_frames - 1
        object_ids = sorted({prompt.object_id for prompt in prompts})
        for object_id in object_ids:
            self._newest.add_prompts(object_id, [prompt for prompt in prompts if prompt.object_id == object_id])
        pointed_at = {object_id: click for object_id in object_ids if (click := self._pointed_at(object_id))}
        told = self._click_means is ClickMeans.WHERE
        settled_by_it = [object_id for object_id, click in pointed_at.items() if told and self._follow_click(click)]
        self._answer([object_id for object_id in object_ids if object_id not in settled_by_it])
        for object_id in pointed_at.keys() - settled_by_it:
            mask = self._newest.board.objects[object_id].masks[frame_index].raw.decode()
            self._video.continue_from(self._objects.by_id[object_id].way, Anchor(frame_index, mask), None)
        self._learn([object_id for object_id in object_ids if object_id not in pointed_at])

    def _follow_click(self, click: PointPrompt) -> bool:
        """Take a click for where its object is; False if no mask that has it came of that."""
        frame_index, each = click.frame_index, self._objects.by_id[click.object_id]
        before = self._newest.before[click.object_id]
        if _is_on(before.decode(), click):
            known = self._newest.board.objects[click.object_id].masks[frame_index]
            self._newest.put({click.object_id: replace(known, prompted=True)})
        elif each.sure is None:
            return False
        else:
            expected = moved_to(each.sure.decode(), click.x_px, click.y_px)
            estimate = self._video.relocate(frame_index, each.way, expected)
            if not _is_on(np.asarray(estimate.logits > 0), click):
                return False
            known = FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)
            self._newest.put({click.object_id: known})
            # Further prompts on the frame correct what the click led to.
            self._newest.before[click.object_id] = known.raw
        each.doubt = AccumulatedUncertainty()
        return True

    def _learn(self, object_ids: Sequence[int]) -> None:
        """Let the memory take in the masks of prompted objects on the newest frame, and their ways go on from them."""
        frame_index = self.n_frames - 1
        for object_id in object_ids:
            state = self._newest.board.objects[object_id]
            merged = merge_prompts(split_at_last_mask(state.prompts[frame_index])[1])
            self._objects.prompt(object_id, frame_index, state.masks[frame_index].raw, merged)
        for gone in self._objects.trim(frame_index):
            self._video.release_frame(gone)
        prompted = [self._objects.by_id[object_id] for object_id in object_ids]
        tasks = [each.task() for each in prompted]
        self._memory.update(self._video.begin_round(tasks))
        for each, task in zip(prompted, tasks, strict=True):
            newest = next(anchor for anchor in task.anchors if anchor.frame_index == frame_index)
            if each.way is None:
                each.way = self._video.start_pass(each.object_id, newest, self._memory)
            else:
                self._video.continue_from(each.way, newest, self._memory)

    def _answer(self, object_ids: Sequence[int]) -> None:
        """The masks of prompted objects on the newest frame."""
        frame_index = self.n_frames - 1
        asked = []
        for object_id in object_ids:
            truth, prompts = split_at_last_mask(self._newest.board.objects[object_id].prompts[frame_index])
            if truth is not None and not prompts:
                self._newest.put({object_id: FrameMask.from_person(truth)})
                continue
            asked.append(
                Interaction(object_id, frame_index, merge_prompts(prompts), self._prior(object_id, truth, prompts))
            )
        elsewhere = [self._objects.by_id[i].task(but=frame_index) for i in object_ids if i in self._objects.by_id]
        known = [task for task in elsewhere if task.anchors]
        for interaction, estimate in self._video.interact(asked, known) if asked else ():
            self._newest.put(
                {interaction.object_id: FrameMask.from_logits(estimate.logits, estimate.score, prompted=True)}
            )

    def _pointed_at(self, object_id: int) -> PointPrompt | None:
        """The click, if all that a person said of a known object on the newest frame is one positive click."""
        prompts = self._newest.board.objects[object_id].prompts[self.n_frames - 1]
        return _only_click(prompts) if object_id in self._newest.before else None

    def _prior(self, object_id: int, truth: RunLengthMask | None, prompts: Sequence[Prompt]) -> FloatMap | None:
        """The mask that prompts on the newest frame correct, as logits (H, W); None where they make a new one."""
        before = truth or self._newest.before.get(object_id)
        if before is None or not before.area_px:
            return None
        if truth is None and _only_click(prompts) is not None:
            return None
        return saturated_logits(before.decode())


def _only_click(prompts: Sequence[Prompt]) -> PointPrompt | None:
    """The positive click, if that is all there is."""
    only = prompts[0] if len(prompts) == 1 else None
    return only if isinstance(only, PointPrompt) and only.positive else None


def _is_on(mask: BoolMask, click: PointPrompt) -> bool:
    row, column = min(int(click.y_px), mask.shape[0] - 1), min(int(click.x_px), mask.shape[1] - 1)
    return bool(mask[row, column])


def _check(prompts: Sequence[Prompt], frame_index: int, size_hw_px: tuple[int, int] | None) -> None:
    """Check that prompts lie on a frame of this size; None for one that is missing.

    Raises:
        ValueError: one does not.
    """
    strangers = sorted({prompt.frame_index for prompt in prompts} - {frame_index})
    if strangers:
        raise ValueError(
            f"prompts on frames {', '.join(map(str, strangers))} arrived, but only the frame {frame_index} can be "
            "prompted now; give prompts with their frame, or before the next one"
        )
    if size_hw_px is not None:
        check_prompts(prompts, frame_index + 1, size_hw_px)
    elif prompts:
        raise ValueError(f"frame {frame_index} is missing, so nothing can be prompted on it; prompt the next one")
