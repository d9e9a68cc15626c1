"""IDPro's across-frame interaction (III-B): prompted frames see each other. Nothing is learned for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.methods.base import Estimate, Interaction, ObjectRound
from pipeline.methods.common.decoding import UNKNOWN_SCORE, is_ambiguous, only_excludes
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.concurrent.batch_decoder import BatchDecoder, LowResMask
from pipeline.methods.concurrent.memory import ConcurrentMemory, MemoryItem, ReadRequest
from pipeline.segmenters.base import FloatMap, ReferenceFrame, useful_refinements
from pipeline.types import BoolMask
from pipeline.video.frames import FrameError

ObjectOnFrame = tuple[int, int]
"""Object id and frame index."""


@dataclass(frozen=True)
class PromptedFrames:
    """Answers a person's prompts on several frames for several objects (IDPro, Eq. 1).

    The first answers come from the prompts alone, with one call of the segmenter per frame, so that a person sees them
    at once. An object with other prompted frames gets a second answer. It reads the memory of these frames, as
    across-frame attention does (Eq. 4; learned there, the similarity of keys here). The segmenter then decodes prompts
    and readout together (Eq. 5 and 6).

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
        answers: dict[ObjectOnFrame, LowResMask] = {}
        masks: dict[ObjectOnFrame, BoolMask] = {}
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
            again = [each for each in group if self._needs_second_answer(each, answers, others)]
            if again:
                yield from self._second(frame_index, again, answers, others)

    def _first(self, embedding: Any, group: Sequence[Interaction]) -> list[LowResMask]:
        """Answers from the prompts on one frame alone. Ambiguous clicks get several candidates, in a separate call.

        Negative clicks correct the mask that the frame had. Without one the answer is an empty mask.
        """
        found: dict[int, LowResMask] = {}
        priors = [self._prior(embedding, each) for each in group]
        ambiguous = [is_ambiguous(each.prompts, prior) for each, prior in zip(group, priors, strict=True)]
        for kind in (False, True):
            rows = [row for row in range(len(group)) if ambiguous[row] == kind and not _says_nothing(group[row])]
            if rows:
                prompts, expected = [group[row].prompts for row in rows], [priors[row] for row in rows]
                nothing = [None] * len(rows)
                first = replace(self.decoder, refinement_iterations=0)
                answers = first.run(embedding, prompts, expected, nothing, nothing, multimask=kind)
                found.update(zip(rows, answers, strict=True))
        for row in set(range(len(group))) - set(found):
            empty = np.full(self.state.frames.size_hw_px, NO_OBJECT_LOGIT, np.float32)
            found[row] = LowResMask(self.state.segmenter.to_low_res(embedding, empty), UNKNOWN_SCORE)
        return [found[row] for row in range(len(group))]

    def _second(
        self,
        frame_index: int,
        group: Sequence[Interaction],
        answers: Mapping[ObjectOnFrame, LowResMask],
        others: Mapping[int, Mapping[int, BoolMask]],
    ) -> Iterator[tuple[Interaction, Estimate]]:
        """Answers that use the other prompted frames. The frame can be read, as it has a first answer."""
        embedding = self.state.embedding(frame_index)
        prompts = [each.prompts for each in group]
        first = [answers[each.object_id, frame_index] for each in group]
        other_masks = [
            {frame: mask for frame, mask in others[each.object_id].items() if frame != frame_index} for each in group
        ]
        learnt = [self._learnt(each.object_id, masks) for each, masks in zip(group, other_masks, strict=True)]
        readouts = self._readouts(frame_index, embedding, group, first, other_masks)
        if any(each is not None for each in learnt):
            expected: list[FloatMap | None] = [self._prior(embedding, each) for each in group]
            found = self.decoder.run(embedding, prompts, expected, learnt, readouts)
        else:
            found = self.decoder.refined(embedding, prompts, learnt, first, readouts)
        for each, answer in zip(group, found, strict=True):
            yield each, self._estimate(frame_index, embedding, answer)

    def _others(
        self, masks: Mapping[ObjectOnFrame, BoolMask], known: Sequence[ObjectRound]
    ) -> dict[int, dict[int, BoolMask]]:
        """By object, the masks of all prompted frames that show it: this round's and earlier ones."""
        anchors = [(task.object_id, anchor) for task in known for anchor in task.anchors]
        by_object: defaultdict[int, dict[int, BoolMask]] = defaultdict(dict)
        for object_id, anchor in anchors:
            by_object[object_id][anchor.frame_index] = anchor.mask
        for (object_id, frame_index), mask in masks.items():
            by_object[object_id][frame_index] = mask
        return {i: {frame: mask for frame, mask in each.items() if mask.any()} for i, each in by_object.items()}

    def _needs_second_answer(
        self,
        each: Interaction,
        answers: Mapping[ObjectOnFrame, LowResMask],
        others: Mapping[int, Mapping[int, BoolMask]],
    ) -> bool:
        if (each.object_id, each.frame_index) not in answers or _says_nothing(each):
            return False
        segmenter = self.state.segmenter
        refinements = useful_refinements(segmenter, self.decoder.refinement_iterations)
        refines_alone = segmenter.uses_mask_prior and refinements > 0
        return refines_alone or bool(set(others[each.object_id]) - {each.frame_index})

    def _learnt(self, object_id: int, masks: Mapping[int, BoolMask]) -> Any:
        """What the segmenter learns from an object's other prompted frames; None without any."""
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
        other_masks: Sequence[Mapping[int, BoolMask]],
    ) -> list[FloatMap | None]:
        """Logits that the other prompted frames give the objects on this frame; None for an object without any."""
        requests = []
        for each, masks, mask in zip(group, other_masks, first, strict=True):
            further = {frame: memory for frame, mask in masks.items() if (memory := self._memory_item(frame, mask))}
            requests.append(ReadRequest(each.object_id, mask.low_res_logits, further, prompted=False))
        if not any(each.further for each in requests):
            return [None] * len(group)
        keys = self.memory.keys(frame_index, embedding)
        readouts = self.memory.read(frame_index, embedding, keys, requests)
        return [readout if each.further else None for each, readout in zip(requests, readouts, strict=True)]

    def _memory_item(self, frame_index: int, mask: BoolMask) -> MemoryItem | None:
        try:
            embedding = self.state.embedding(frame_index)
        except FrameError:
            return None
        return MemoryItem(self.memory.keys(frame_index, embedding), self.memory.value(embedding, mask))

    def _prior(self, embedding: Any, each: Interaction) -> FloatMap | None:
        return None if each.prior is None else self.state.segmenter.to_low_res(embedding, each.prior)

    def _estimate(self, frame_index: int, embedding: Any, found: LowResMask) -> Estimate:
        logits = self.state.segmenter.to_full_size(embedding, found.low_res_logits)
        return Estimate(frame_index, logits, found.score)


def _says_nothing(each: Interaction) -> bool:
    """Whether only negative prompts came for a frame without a mask to correct."""
    return each.prior is None and only_excludes(each.prompts)
