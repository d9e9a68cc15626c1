"""One video under SAM 2: prompted frames condition the memory, passes carry the mask from them to their neighbours."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache, FrameEmbeddings
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.methods.common.video_state import digest
from pipeline.methods.sam2 import Sam2Settings
from pipeline.methods.sam2_model.network import FrameContext, FrameFeatures, FrameMemory, Sam2Network, Sam2Output
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.video.frames import FrameError, FrameSource


@dataclass(frozen=True)
class Sam2Memory:
    """One object in one round: the memories of its prompted frames, by frame index."""

    object_id: int
    conditioning: Mapping[int, FrameMemory]


class Sam2Video:
    """See `pipeline.methods.base.PerObjectVideo`."""

    clicks_only = False
    fusion_score_power = 0.0

    def __init__(
        self,
        frames: FrameSource,
        segmenter: Sam2Network,
        embeddings: EmbeddingCache[Any],
        video_key: int,
        settings: Sam2Settings,
    ) -> None:
        self._frames, self._network, self._settings = frames, segmenter, settings
        self._embeddings = FrameEmbeddings(embeddings, segmenter, frames, video_key)
        self._prompted: EmbeddingCache[FrameMemory] = EmbeddingCache(settings.memory_mib)
        self._passes: list[_Recent] = []

    @property
    def held_bytes(self) -> int:
        """Bytes of the memories of prompted frames and of the latest frames of running passes."""
        return self._prompted.held_bytes + sum(recent.held_bytes for recent in list(self._passes))

    def forget(self, object_id: int) -> None:
        """Drop the memories of an object's prompted frames."""
        self._prompted.forget_where(lambda key: _is_outdated(key, object_id, {}))

    def begin_round(self, task: ObjectRound) -> Sam2Memory:
        """Store the prompted frames in the object's memory, and forget those that are no longer prompted."""
        digests = {anchor.frame_index: digest(anchor.mask) for anchor in task.anchors}
        self._prompted.forget_where(lambda key: _is_outdated(key, task.object_id, digests))
        conditioning = {}
        for anchor in task.anchors:
            key = task.object_id, anchor.frame_index, digests[anchor.frame_index]
            conditioning[anchor.frame_index] = self._prompted.get_or_make(key, partial(self._learn, anchor))
        return Sam2Memory(task.object_id, conditioning)

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: Sam2Memory | None
    ) -> Estimate:
        """Segment one frame from a person's prompts, and keep its memory for later passes."""
        known = self._nearest(frame_index, memory.conditioning if memory is not None else {})
        reverse = bool(known) and min(known) > frame_index
        context = FrameContext(frame_index, len(self._frames), known, reverse=reverse)
        features = self._features(frame_index)
        found = self._network.answer_prompts(features, context, prompts, self._frames.size_hw_px, prior)
        estimate = self._estimate(frame_index, found)
        if memory is not None:
            key = memory.object_id, frame_index, digest(estimate.logits > 0)
            self._prompted.get_or_make(key, lambda: found.memory)
        return estimate

    def propagate(self, anchor: Anchor, frame_indices: range, memory: Sam2Memory) -> Iterator[Estimate]:
        """Segment frame by frame, attending to the prompted frames and to the latest ones of the pass."""
        recent = _Recent(self._network, frame_indices.step)
        conditioning = memory.conditioning
        self._passes.append(recent)
        try:
            if anchor.frame_index not in conditioning:
                # A pass that resumes a cancelled round starts from a predicted mask: it must not count as prompted.
                learnt = self._learn(anchor)
                if conditioning:
                    recent.add(anchor.frame_index, learnt)
                else:
                    conditioning = {anchor.frame_index: learnt}
            for frame_index in frame_indices:
                try:
                    features = self._features(frame_index)
                except FrameError:
                    continue
                known = self._nearest(frame_index, conditioning)
                context = FrameContext(frame_index, len(self._frames), known, recent.frames, frame_indices.step < 0)
                found = self._network.track(features, context)
                recent.add(frame_index, found.memory)
                yield self._estimate(frame_index, found)
        finally:
            self._passes.remove(recent)

    def _learn(self, anchor: Anchor) -> FrameMemory:
        """The memory of a frame whose mask a person accepted.

        Raises:
            FrameError: the frame cannot be read.
        """
        context = FrameContext(anchor.frame_index, len(self._frames))
        return self._network.take_mask(self._features(anchor.frame_index), context, anchor.mask).memory

    def _features(self, frame_index: int) -> FrameFeatures:
        """The image encoder's answer to a frame, from the cache if it is there.

        Raises:
            FrameError: the frame cannot be read.
        """
        features: FrameFeatures = self._embeddings.get(frame_index)
        return features

    def _nearest(self, frame_index: int, conditioning: Mapping[int, FrameMemory]) -> Mapping[int, FrameMemory]:
        wanted = nearest_frames(frame_index, conditioning, self._settings.conditioning_frames)
        return {index: each for index, each in conditioning.items() if index in wanted}

    def _estimate(self, frame_index: int, found: Sam2Output) -> Estimate:
        return Estimate(frame_index, self._network.full_size(found.logits, self._frames.size_hw_px), found.score)


class _Recent:
    """The latest frames of one pass: whole memories of the nearest, object pointers of earlier ones."""

    def __init__(self, network: Sam2Network, step: int) -> None:
        self._n_whole, self._n_pointers, self._step = network.n_memory_frames, network.n_pointer_frames, step
        self.frames: dict[int, FrameMemory] = {}
        self.held_bytes = 0

    def add(self, frame_index: int, memory: FrameMemory) -> None:
        """Remember a frame, and forget what the next one will not look back at."""
        self.frames[frame_index] = memory
        for index in list(self.frames):
            distance = (frame_index - index) // self._step + 1
            if distance > max(self._n_whole, self._n_pointers):
                del self.frames[index]
            elif distance > self._n_whole:
                self.frames[index] = self.frames[index].pointer_only()
        self.held_bytes = sum(each.nbytes for each in self.frames.values())


def nearest_frames(frame_index: int, prompted: Iterable[int], limit: int) -> frozenset[int]:
    """The prompted frames to attend to from a frame: the nearest before it and after it, then the next nearest.

    Args:
        frame_index: the frame.
        prompted: indices of all prompted frames.
        limit: how many at most; 0 takes all.
    """
    by_distance = sorted(prompted, key=lambda index: (abs(index - frame_index), index))
    if not limit:
        return frozenset(by_distance)
    before = [index for index in by_distance if index < frame_index][:1]
    after = [index for index in by_distance if index >= frame_index][:1]
    first = [index for index in by_distance if index in (*before, *after)]
    return frozenset([*first, *(index for index in by_distance if index not in first)][:limit])


def _is_outdated(key: Hashable, object_id: int, digests: Mapping[int, bytes]) -> bool:
    """Whether a key of the prompted frames' memories is the object's, but not of a frame and mask it has now."""
    assert isinstance(key, tuple)
    return bool(key[0] == object_id and digests.get(key[1]) != key[2])
