"""Prompted frames that see each other: IDPro's across-frame interaction (III-B), without anything learned for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.methods.base import Estimate, Interaction, ObjectRound
from pipeline.methods.common.decoding import is_ambiguous
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.memory import Asked, ConcurrentMemory, Remembered
from pipeline.segmenters.base import FloatMap, ReferenceFrame
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError

Place = tuple[int, int]
"""An object on a frame: object id and frame index."""


@dataclass(frozen=True)
class PromptedFrames:
    """Answers a person's prompts on several frames for several objects (IDPro, Eq. 1).

    The first answers take the prompts as they are: one call of the segmenter a frame, so that a person sees them at
    once. Where an object is known on other frames too, a second answer reads these frames' memory, as across-frame
    attention does (Eq. 4; its deformable and multi-head attention are learned, here it is the likeness of keys), and
    lets the segmenter decode both together with the frame itself (Eq. 5 and 6).

    Attributes:
        decoder: makes the second answers. Segmenters that use a carried mask refine every prompted frame, even a single
            one: their first iteration does not look at the colours inside its own mask yet.
    """

    state: VideoState
    memory: ConcurrentMemory
    decoder: BatchDecoder

    def segment(
        self, interactions: Sequence[Interaction], known: Sequence[ObjectRound]
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """See `pipeline.methods.base.ConcurrentVideo.interact`."""
        frames: defaultdict[int, list[Interaction]] = defaultdict(list)
        for each in interactions:
            frames[each.frame_index].append(each)
        answers: dict[Place, LowResMask] = {}
        masks: dict[Place, BoolMask] = {}
        for frame_index, group in sorted(frames.items()):
            try:
                embedding = self.state.embedding(frame_index)
            except FrameError:
                continue
            for each, found in zip(group, self._first(embedding, group), strict=True):
                estimate = self._estimate(frame_index, embedding, found)
                answers[each.object_id, frame_index] = found
                masks[each.object_id, frame_index] = np.asarray(estimate.logits > 0)
                yield each, estimate
        others = self._others(masks, known)
        for frame_index, group in sorted(frames.items()):
            again = [each for each in group if self._has_more_to_say(each, answers, others)]
            if again:
                yield from self._second(frame_index, again, answers, others)

    def _first(self, embedding: Any, group: Sequence[Interaction]) -> list[LowResMask]:
        """The answers to prompts on one frame; ambiguous clicks go in a call of their own, for several candidates."""
        found: dict[int, LowResMask] = {}
        priors = [self._prior(embedding, each) for each in group]
        ambiguous = [is_ambiguous(each.prompts, prior) for each, prior in zip(group, priors, strict=True)]
        for kind in (False, True):
            rows = [row for row in range(len(group)) if ambiguous[row] == kind]
            if rows:
                prompts, expected = [group[row].prompts for row in rows], [priors[row] for row in rows]
                nothing = [None] * len(rows)
                first = replace(self.decoder, refinement_iterations=0)
                answers = first.run(embedding, prompts, expected, nothing, nothing, multimask=kind)
                found.update(zip(rows, answers, strict=True))
        return [found[row] for row in range(len(group))]

    def _second(
        self,
        frame_index: int,
        group: Sequence[Interaction],
        answers: Mapping[Place, LowResMask],
        others: Mapping[int, Mapping[int, BoolMask]],
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """Answers that know of the other frames; the frame itself can be read, as it has a first answer."""
        embedding = self.state.embedding(frame_index)
        prompts = [each.prompts for each in group]
        first = [answers[each.object_id, frame_index] for each in group]
        elsewhere = [
            {frame: mask for frame, mask in others[each.object_id].items() if frame != frame_index} for each in group
        ]
        learnt = [self._learnt(each.object_id, masks) for each, masks in zip(group, elsewhere, strict=True)]
        readouts = self._readouts(frame_index, embedding, group, first, elsewhere)
        if any(each is not None for each in learnt):
            expected: list[FloatMap | None] = [self._prior(embedding, each) for each in group]
            found = self.decoder.run(embedding, prompts, expected, learnt, readouts)
        else:
            found = self.decoder.refined(embedding, prompts, learnt, first, readouts)
        for each, answer in zip(group, found, strict=True):
            yield each, self._estimate(frame_index, embedding, answer)

    def _others(self, masks: Mapping[Place, BoolMask], known: Sequence[ObjectRound]) -> dict[int, dict[int, BoolMask]]:
        """By object the masks of all its prompted frames that show it: those of this round, and those known before."""
        anchors = [(task.object_id, anchor) for task in known for anchor in task.anchors]
        by_object: defaultdict[int, dict[int, BoolMask]] = defaultdict(dict)
        for object_id, anchor in anchors:
            by_object[object_id][anchor.frame_index] = anchor.mask
        for (object_id, frame_index), mask in masks.items():
            by_object[object_id][frame_index] = mask
        return {i: {frame: mask for frame, mask in each.items() if mask.any()} for i, each in by_object.items()}

    def _has_more_to_say(
        self, each: Interaction, answers: Mapping[Place, LowResMask], others: Mapping[int, Mapping[int, BoolMask]]
    ) -> bool:
        if (each.object_id, each.frame_index) not in answers:
            return False
        refines_alone = self.state.segmenter.uses_mask_prior and self.decoder.refinement_iterations > 0
        return refines_alone or bool(set(others[each.object_id]) - {each.frame_index})

    def _learnt(self, object_id: int, masks: Mapping[int, BoolMask]) -> Any:
        """What an object's other prompted frames teach the segmenter; None where nothing."""
        references = []
        for frame_index, mask in sorted(masks.items()):
            try:
                references.append(ReferenceFrame(self.state.embedding(frame_index), mask))
            except FrameError:
                continue
        known = self.state.objects.get(object_id)
        return self.state.segmenter.learn(references, None if known is None else known.learnt) if references else None

    def _readouts(
        self,
        frame_index: int,
        embedding: Any,
        group: Sequence[Interaction],
        first: Sequence[LowResMask],
        elsewhere: Sequence[Mapping[int, BoolMask]],
    ) -> list[FloatMap | None]:
        """What the other frames say of the objects on this one; None where there are none."""
        asked = []
        for each, masks, mask in zip(group, elsewhere, first, strict=True):
            further = {frame: memory for frame, mask in masks.items() if (memory := self._remembered(frame, mask))}
            asked.append(Asked(each.object_id, mask.low_res_logits, further, prompted=False))
        if not any(each.further for each in asked):
            return [None] * len(group)
        keys = self.memory.keys(frame_index, embedding)
        readouts = self.memory.read(frame_index, embedding, keys, asked)
        return [readout if each.further else None for each, readout in zip(asked, readouts, strict=True)]

    def _remembered(self, frame_index: int, mask: BoolMask) -> Remembered | None:
        try:
            embedding = self.state.embedding(frame_index)
        except FrameError:
            return None
        return Remembered(self.memory.keys(frame_index, embedding), self.memory.value(embedding, mask))

    def _prior(self, embedding: Any, each: Interaction) -> FloatMap | None:
        return None if each.prior is None else self.state.segmenter.to_low_res(embedding, each.prior)

    def _estimate(self, frame_index: int, embedding: Any, found: LowResMask) -> Estimate:
        logits = self.state.segmenter.to_full_size(embedding, found.low_res_logits)
        return Estimate(frame_index, logits, found.score)
