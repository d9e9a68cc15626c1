"""What `OnlineSession` keeps: a few frames, the objects with their prompted frames, and the newest frame's masks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.masks import probabilities
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.session.mask_store import MaskStore
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.propagation import AccumulatedUncertainty
from pipeline.types import FrameResult, FrameRGB, Prompt, RunLengthMask
from pipeline.uncertainty import entropy_map, most_uncertain
from pipeline.video.frames import FrameError

RECENT_FRAMES = 2
"""The newest frame, and the one that its masks are propagated from."""


class FrameBuffer:
    """A `FrameSource` of the newest frames and of those that are kept for longer. Not thread-safe."""

    def __init__(self) -> None:
        self._n_frames = 0
        self._size_hw_px: tuple[int, int] | None = None
        self._recent: deque[tuple[int, FrameRGB]] = deque(maxlen=RECENT_FRAMES)
        self._kept: dict[int, FrameRGB] = {}

    def __len__(self) -> int:
        return self._n_frames

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """Height and width of the first readable frame.

        Raises:
            FrameError: there was none yet.
        """
        if self._size_hw_px is None:
            raise FrameError(0, "no frame has arrived yet")
        return self._size_hw_px

    @property
    def newest(self) -> int | None:
        """The index of the newest readable frame."""
        return self._recent[-1][0] if self._recent else None

    @property
    def kept(self) -> tuple[int, ...]:
        """The indices of the frames that are kept for longer, ascending."""
        return tuple(sorted(self._kept))

    @property
    def kept_bytes(self) -> int:
        """Memory of the frames that are kept for longer, in bytes."""
        return sum(image.nbytes for image in self._kept.values())

    @property
    def held_bytes(self) -> int:
        """Memory of all frames in the buffer, in bytes."""
        recent = sum(image.nbytes for frame_index, image in self._recent if frame_index not in self._kept)
        return self.kept_bytes + recent

    def check(self, image: FrameRGB) -> None:
        """Check that an image can be the next frame.

        Raises:
            ValueError: it is not an RGB image, or its size differs from the first one's.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a frame must be (H, W, 3) uint8, but got {image.shape} {image.dtype}")
        if self._size_hw_px not in (None, image.shape[:2]):
            height_px, width_px = self.size_hw_px
            arrived = f"{image.shape[1]}x{image.shape[0]}"
            raise ValueError(
                f"frame {self._n_frames} is {arrived} px, but the video is {width_px}x{height_px} px; resize it, or "
                "feed None for a frame to be left out"
            )

    def add(self, image: FrameRGB | None) -> None:
        """Add the next frame; None for a missing one."""
        if image is not None:
            self._size_hw_px = self._size_hw_px or (int(image.shape[0]), int(image.shape[1]))
            self._recent.append((self._n_frames, image))
        self._n_frames += 1

    def keep(self, frame_index: int) -> None:
        """Keep a frame of the buffer until `drop`.

        Raises:
            FrameError: it is no longer in the buffer.
        """
        self._kept[frame_index] = self.frame(frame_index)

    def drop(self, frame_index: int) -> None:
        """Stop keeping a frame."""
        self._kept.pop(frame_index, None)

    def frame(self, frame_index: int) -> FrameRGB:
        """One frame, see `pipeline.video.frames.FrameSource.frame`; `FrameError` also for frames no longer held."""
        if not 0 <= frame_index < self._n_frames:
            raise IndexError(f"frame {frame_index} of a video of {self._n_frames} frames so far")
        image = self._kept.get(frame_index, dict(self._recent).get(frame_index))
        if image is None:
            raise FrameError(frame_index, "is missing or gone; a video that arrives is seen once")
        return image


@dataclass
class TrackedObject:
    """One object.

    Attributes:
        object_id: the object.
        prompted: mask and prompts by prompted frame, as far as they are kept.
        n_rounds: how often the object was prompted.
        pass_: the method's propagation pass, see `pipeline.methods.base.OnlineVideo.start_pass`; None before it starts.
        uncertainty: accumulated along the pass since the object was last prompted.
        reliable_mask: the last mask that was prompted, or found without a request for help; None if there is none.
    """

    object_id: int
    prompted: dict[int, tuple[RunLengthMask, ObjectPrompts]] = field(default_factory=dict)
    n_rounds: int = 0
    pass_: Any = None
    uncertainty: AccumulatedUncertainty = field(default_factory=AccumulatedUncertainty)
    reliable_mask: RunLengthMask | None = None

    def set_reliable_mask(self, mask: RunLengthMask) -> None:
        """Set the last reliable mask, unless it is empty."""
        if mask.area_px:
            self.reliable_mask = mask

    def round_input(self, *, without: int | None = None) -> ObjectRound:
        """What a method gets for a round: all prompted frames, or all but one."""
        anchors = [
            Anchor(frame_index, mask.decode(), prompts)
            for frame_index, (mask, prompts) in sorted(self.prompted.items())
            if frame_index != without
        ]
        return ObjectRound(self.object_id, self.n_rounds, tuple(anchors), frozenset())


class TrackedObjects:
    """All objects, with a bound on their prompted frames.

    Of an object's prompted frames the first and the newest ``kept`` stay. If the images of all these exceed
    ``limit_mib``, the oldest are dropped: first those that are no object's first one, then the others. The newest frame
    always stays.
    """

    def __init__(self, frames: FrameBuffer, kept: int, limit_mib: float) -> None:
        if kept < 1:
            raise ValueError(f"at least 1 prompted frame must be kept beside the first one, but got {kept}")
        if not limit_mib > 0:
            raise ValueError(f"the bound of prompted frames must be more than 0 MiB, but got {limit_mib}")
        self._frames, self._kept, self._limit_bytes = frames, kept, int(limit_mib * 2**20)
        self._objects: dict[int, TrackedObject] = {}

    @property
    def by_id(self) -> Mapping[int, TrackedObject]:
        """The objects by their id."""
        return self._objects

    @property
    def held_bytes(self) -> int:
        """Memory of the masks, in bytes."""
        prompted = [mask for each in self._objects.values() for mask, _ in each.prompted.values()]
        reliable = [each.reliable_mask for each in self._objects.values() if each.reliable_mask is not None]
        return sum(len(mask.counts) for mask in (*prompted, *reliable))

    def add_prompted(self, object_id: int, frame_index: int, mask: RunLengthMask, prompts: ObjectPrompts) -> None:
        """Add a prompted frame, the newest one, to an object that may be new."""
        each = self._objects.setdefault(object_id, TrackedObject(object_id))
        each.n_rounds += 1
        each.uncertainty = AccumulatedUncertainty()
        each.prompted[frame_index] = mask, prompts
        each.set_reliable_mask(mask)
        self._frames.keep(frame_index)

    def drop_excess(self, newest: int) -> Iterator[int]:
        """Drop prompted frames beyond the bounds; yields the frames that no object has any more."""
        for each in self._objects.values():
            for frame_index in sorted(each.prompted)[1 : -self._kept]:
                del each.prompted[frame_index]
        yield from self._drop_unused()
        while self._frames.kept_bytes > self._limit_bytes:
            firsts = {min(each.prompted) for each in self._objects.values() if each.prompted}
            candidates = [frame_index for frame_index in self._frames.kept if frame_index != newest]
            if not candidates:
                break
            dropped = min(candidates, key=lambda frame_index: (frame_index in firsts, frame_index))
            for each in self._objects.values():
                each.prompted.pop(dropped, None)
            yield from self._drop_unused()

    def _drop_unused(self) -> Iterator[int]:
        used = {frame_index for each in self._objects.values() for frame_index in each.prompted}
        for frame_index in set(self._frames.kept) - used:
            self._frames.drop(frame_index)
            yield frame_index


@dataclass(frozen=True)
class HelpRequest:
    """A method's request for a click on the newest frame (thesis, 6.4.4).

    Attributes:
        object_id: the object to click on.
        frame_index: the newest frame.
        x_px, y_px: where to look, in pixels of the frame: the most uncertain place in and around the object's mask.
        uncertainty: the entropy in and around the object's mask, in [0, 1].
        change: its rise against the previous frame, in [-1, 1].
    """

    object_id: int
    frame_index: int
    x_px: float
    y_px: float
    uncertainty: float
    change: float


@dataclass(frozen=True)
class OnlineFrame:
    """The results of one frame, one per object so far, and the method's requests. A missing frame has neither."""

    frame_index: int
    results: tuple[FrameResult, ...]
    requests: tuple[HelpRequest, ...]


@dataclass
class NewestFrame:
    """The newest frame.

    Attributes:
        frame_index: its index.
        store: the masks and prompts of all objects on it.
        propagated: the masks by object id as the method propagated them, before any prompt.
        uncertainty: of these masks, by object id.
        requests: for help with these masks.
    """

    frame_index: int
    store: MaskStore
    propagated: dict[int, RunLengthMask] = field(default_factory=dict)
    uncertainty: dict[int, float | None] = field(default_factory=dict)
    requests: tuple[HelpRequest, ...] = ()

    @classmethod
    def without_masks(cls, frames: FrameBuffer) -> NewestFrame:
        """The frame that was added last, before it has any mask."""
        return cls(len(frames) - 1, MaskStore(frames))

    def mask(self, object_id: int) -> FrameMask:
        """The current mask of an object.

        Raises:
            KeyError: it has none on this frame.
        """
        return self.store.objects[object_id].masks[self.frame_index]

    def prompts(self, object_id: int) -> tuple[Prompt, ...]:
        """The prompts of an object on this frame."""
        return self.store.objects[object_id].prompts.get(self.frame_index, ())

    def set_masks(self, masks: Mapping[int, FrameMask]) -> None:
        """Set the masks of some objects, and resolve overlaps with all others."""
        for object_id in masks:
            self.store.objects.setdefault(object_id, ObjectState(object_id))
        self.store.add_masks(self.frame_index, masks)

    def set_estimates(self, estimates: Mapping[int, Estimate]) -> None:
        """Set what the method found besides the masks: uncertainties and requests, by object id."""
        self.propagated = {object_id: self.mask(object_id).raw for object_id in estimates}
        self.uncertainty = {object_id: estimate.uncertainty for object_id, estimate in estimates.items()}
        uncertain = {object_id: estimate for object_id, estimate in estimates.items() if estimate.wants_help}
        if uncertain:
            entropy = entropy_map(probabilities(np.stack([estimate.logits for estimate in estimates.values()])))
            self.requests = tuple(_request(object_id, each, entropy) for object_id, each in uncertain.items())

    def add_prompts(self, object_id: int, prompts: Sequence[Prompt]) -> None:
        """Add prompts to those that the object has on this frame."""
        state = self.store.objects.setdefault(object_id, ObjectState(object_id))
        state.prompts[self.frame_index] = (*state.prompts.get(self.frame_index, ()), *prompts)

    def result(self) -> OnlineFrame:
        """The current results of the frame."""
        states = [state for _, state in sorted(self.store.objects.items())]
        prompted = {state.object_id for state in states if state.prompts}
        results = [state.result(self.frame_index) for state in states]
        results = [
            result
            if result.object_id in prompted or self.uncertainty.get(result.object_id) is None
            else replace(result, uncertainty=self.uncertainty[result.object_id])
            for result in results
        ]
        requests = tuple(request for request in self.requests if request.object_id not in prompted)
        return OnlineFrame(self.frame_index, tuple(results), requests)


def _request(object_id: int, estimate: Estimate, entropy: FloatMap) -> HelpRequest:
    x_px, y_px = most_uncertain(entropy, np.asarray(estimate.logits > 0))
    uncertainty, change = estimate.uncertainty or 0.0, estimate.uncertainty_change or 0.0
    return HelpRequest(object_id, estimate.frame_index, x_px, y_px, uncertainty, change)
