"""The masks of all objects of one video, with one owner for every pixel."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline import fusion
from pipeline.frame_uncertainty import touching, uncertainties
from pipeline.methods.base import Anchor, ObjectRound
from pipeline.prompting import merge_prompts, settled
from pipeline.session.frame_mask import Known
from pipeline.session.history import PromptsByFrame
from pipeline.session.next_frame import Outlook, Suggestion
from pipeline.session.object_state import ObjectState, by_frame
from pipeline.session.ranges import Reach
from pipeline.types import BoolMask, FrameResult, PointPrompt, Prompt, RunLengthMask
from pipeline.uncertainty import entropy_map, most_uncertain, pseudo_correction
from pipeline.video.recent_frames import RecentFrames

_LEAST_CLAIM, _SURE_CLAIM = 0.51, 0.999
"""Probabilities of an object within its own mask, at least and at most."""


SOFT_MIB = 64.0
"""Bound of the probabilities behind the masks of one session; a frame of 854x480 has some 4 KiB of them per object."""
_SWEEPS = 8
"""So many times, while as much as the bound is added, the surplus is swept out."""


class Board:
    """What a session and its rounds share. ``lock`` guards everything; methods take it themselves.

    Masks themselves stay as run lengths; of the probabilities behind them at most ``soft_mib`` MiB do, those of the
    masks known longest go first. Without them a mask is as sure as its score wherever pixels are contested.
    """

    def __init__(self, frames: RecentFrames, soft_mib: float = SOFT_MIB) -> None:
        self.frames = frames
        self._soft_limit_bytes, self._soft_added_bytes = int(soft_mib * 2**20), 0
        self.objects: dict[int, ObjectState] = {}
        self.lock = threading.RLock()

    def take_prompts(self, object_id: int, prompts: Sequence[Prompt], reach: Reach) -> tuple[list[FrameResult], bool]:
        """Give an object its complete current set of prompts.

        Where prompts went away, and the rest were those of an earlier round or grow out of them, that round's masks
        come back. An object without any prompt left gets empty masks, and its pixels go back to the others.

        Returns:
            what changed by that alone, and whether rounds were taken back: what was learned from them is void.
        """
        with self.lock:
            new = by_frame(prompts)
            state = self.objects.get(object_id)
            if state is None:
                if not new:
                    return [], False
                state = self.objects[object_id] = ObjectState(object_id, len(self.frames))
            if state.prompts == new:
                return [], False
            taken_back = self._take_back(state, new)
            state.update_prompts(prompts, reach)
            if not new:
                empty = RunLengthMask.encode(np.zeros(self.frames.size_hw_px, np.bool_))
                changed = {frame_index: Known(empty, empty, 1.0, False) for frame_index in sorted(state.known)}
                return [r for index, known in changed.items() for r in self.put(index, {object_id: known})], True
            back = taken_back or set()
            return [r for index in sorted(back) for r in self._shown_anew(index, {object_id})], taken_back is not None

    def _take_back(self, state: ObjectState, new: PromptsByFrame) -> set[int] | None:
        """Return to the moment that is nearest to the new prompts; the frames that changed, None if there is none."""
        present = state.moment()
        state.history.remember(present, state.known)
        moment = state.history.nearest(new)
        if moment is None or moment.prompts == state.prompts:
            return None
        return state.return_to(moment)

    def waiting(self) -> list[ObjectState]:
        """The objects that have frames to be segmented."""
        with self.lock:
            return [state for _, state in sorted(self.objects.items()) if state.stale]

    def anchors(self, state: ObjectState, *, clicks_only: bool = False) -> list[Anchor]:
        """The prompted frames of an object whose masks are up to date."""
        with self.lock:
            done = [frame for frame in sorted(state.prompts) if frame in state.known and frame not in state.stale]
            return [
                Anchor(
                    frame,
                    state.known[frame].own.decode(),
                    merge_prompts(settled(state.prompts[frame])[1], clicks_only=clicks_only),
                )
                for frame in done
            ]

    def object_round(self, state: ObjectState, anchors: Sequence[Anchor]) -> ObjectRound:
        """What a method is told of an object's round."""

        def others(frame_index: int) -> list[BoolMask]:
            with self.lock:
                present = [s.known.get(frame_index) for i, s in sorted(self.objects.items()) if i != state.object_id]
            return [known.own.decode() for known in present if known is not None]

        with self.lock:
            stale = frozenset(state.stale)
        return ObjectRound(state.object_id, state.round_index, tuple(anchors), stale, others)

    def put(self, frame_index: int, found: Mapping[int, Known], *, final: bool = True) -> list[FrameResult]:
        """Keep masks of one frame by object id, settle who owns which pixel, and report every object that changed.

        The objects that were found come first. With ``final`` the frame waits no longer.
        """
        with self.lock:
            for object_id, known in found.items():
                state = self.objects[object_id]
                state.known[frame_index] = known
                if final:
                    state.stale.discard(frame_index)
            self._measure(frame_index, set(found))
            self._soft_added_bytes += sum(known.soft_bytes for known in found.values())
            if self._soft_added_bytes > self._soft_limit_bytes / _SWEEPS:
                self.drop_surplus()
            return self._shown_anew(frame_index, set(found))

    def _shown_anew(self, frame_index: int, found: set[int]) -> list[FrameResult]:
        changed = found | self._settle(frame_index)
        results = [self.objects[object_id].result(frame_index) for object_id in sorted(changed)]
        return sorted(results, key=lambda result: result.object_id not in found)

    def drop_surplus(self) -> None:
        """Let the oldest probabilities go where there are more than the bound allows."""
        with self.lock:
            self._soft_added_bytes = 0
            held = {i: sum(known.soft_bytes for known in state.known.values()) for i, state in self.objects.items()}
            excess = 1.0 - self._soft_limit_bytes * (1.0 - 1.0 / _SWEEPS) / max(1, sum(held.values()))
            for object_id, state in self.objects.items():
                surplus = excess * held[object_id]
                for frame_index, known in state.known.items():
                    if surplus <= 0:
                        break
                    surplus -= known.soft_bytes
                    state.known[frame_index] = known.hard()

    def _measure(self, frame_index: int, found: set[int]) -> None:
        """How uncertain the objects of a frame are: those that were found, and those whose surroundings they share."""
        present = {i: s.known[frame_index] for i, s in self.objects.items() if frame_index in s.known}
        soft = {i: known.soft.small() for i, known in present.items() if known.soft is not None}
        for object_id, uncertainty in uncertainties(soft, touching(soft, found)).items():
            state = self.objects[object_id]
            state.known[frame_index] = replace(state.known[frame_index], uncertainty=uncertainty)

    def outlook(self, state: ObjectState) -> Outlook:
        """What is known of an object, for whoever asks which frame to correct."""
        n_frames = len(self.frames)
        scores, prompted = np.full(n_frames, np.nan), np.zeros(n_frames, np.bool_)
        for frame_index, known in state.known.items():
            scores[frame_index] = known.score
        prompted[sorted(state.prompts)] = True
        return Outlook(scores, prompted)

    def suggestion(self, frame_index: int, object_id: int, gain: float) -> Suggestion:
        """Where to click on a frame that is worth correcting; its object has a mask there."""
        known = self.objects[object_id].known[frame_index]
        if known.soft is None:
            height_px, width_px = self.frames.size_hw_px
            inside = pseudo_correction(np.zeros((height_px, width_px), np.float32), known.own.decode())
            x_px, y_px = inside or (width_px / 2, height_px / 2)
            return Suggestion(frame_index, object_id, x_px, y_px, inside is not None, gain, known.score)
        present = [s.known[frame_index].soft for s in self.objects.values() if frame_index in s.known]
        entropy = entropy_map(np.stack([soft.probabilities() for soft in present if soft is not None]))
        probability = known.soft.probabilities()
        x_px, y_px = most_uncertain(entropy, np.asarray(probability > 0.5))
        positive = bool(probability[int(y_px), int(x_px)] > 0.5)
        return Suggestion(frame_index, object_id, x_px, y_px, positive, gain, known.score)

    def _settle(self, frame_index: int) -> set[int]:
        """Give every pixel of a frame one owner; returns the objects whose shown mask changed."""
        present = {i: s.known[frame_index] for i, s in self.objects.items() if frame_index in s.known}
        own = {object_id: known.own for object_id, known in present.items() if known.own.area_px}
        shown: Mapping[int, RunLengthMask] = own
        if _overlap(list(own.values())):
            decoded = {object_id: mask.decode() for object_id, mask in own.items()}
            owned = fusion.one_owner(self._claims(frame_index, present, decoded), _prompted(present, decoded))
            shown = {object_id: RunLengthMask.encode(mask) for object_id, mask in owned.items()}
        changed = set()
        for object_id, known in present.items():
            mask = shown.get(object_id, known.own)
            if mask != known.shown:
                changed.add(object_id)
                self.objects[object_id].known[frame_index] = replace(known, shown=mask)
        return changed

    def _claims(
        self, frame_index: int, present: Mapping[int, Known], own: Mapping[int, BoolMask]
    ) -> dict[int, NDArray[np.float32]]:
        """Probabilities by object id: above a half in its mask, elsewhere 0; certain where a person clicked."""
        asked = any(present[object_id].prompted for object_id in own)
        contested = np.asarray(np.sum(list(own.values()), axis=0, dtype=np.uint8) > 1) if asked else None
        claims = {}
        for object_id, mask in own.items():
            known = present[object_id]
            soft = known.soft.probabilities() if known.soft is not None else np.full(mask.shape, known.score)
            claim = np.where(mask, np.clip(soft, _LEAST_CLAIM, _SURE_CLAIM), 0.0).astype(np.float32)
            if known.prompted and contested is not None:
                for spot in _clicked_spots(contested & mask, self.objects[object_id].prompts.get(frame_index, ())):
                    claim[spot] = 1.0
            claims[object_id] = claim
        return claims

    def held_bytes(self) -> int:
        """Memory of all masks, in bytes."""
        with self.lock:
            return sum(state.held_bytes for state in self.objects.values())


def _overlap(masks: list[RunLengthMask]) -> bool:
    """Whether two of the masks share a pixel; found out on the run lengths."""
    if len(masks) < 2:
        return False
    union = int(coco_mask.area(coco_mask.merge([mask.coco() for mask in masks])))
    return union < sum(mask.area_px for mask in masks)


def _prompted(present: Mapping[int, Known], own: Mapping[int, BoolMask]) -> frozenset[int]:
    return frozenset(object_id for object_id in own if present[object_id].prompted)


def _clicked_spots(contested: BoolMask, prompts: Sequence[Prompt]) -> Iterator[BoolMask]:
    """The connected parts of the contested pixels that hold a person's positive click."""
    clicks = [prompt for prompt in prompts if isinstance(prompt, PointPrompt) and prompt.positive]
    if not clicks or not contested.any():
        return
    _, labels = cv2.connectedComponents(contested.astype(np.uint8))
    height_px, width_px = contested.shape
    at = {int(labels[min(int(c.y_px), height_px - 1), min(int(c.x_px), width_px - 1)]) for c in clicks}
    for label in sorted(at - {0}):
        yield labels == label
