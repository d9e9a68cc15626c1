"""CiVOS: rounds of clicks alone, each propagated from the clicked frame (papers: thesis, chapter 4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.embeddings.prefetch import EmbeddingPrefetcher
from pipeline.methods.base import Anchor, Estimate, Interaction, ObjectRound
from pipeline.methods.concurrent_video import ConcurrentSettings, MemoryVideo
from pipeline.methods.video_state import VideoState
from pipeline.segmenters.base import FloatMap, ObjectPrompts, Segmenter
from pipeline.video.frames import FrameError, FrameSource


@dataclass(frozen=True)
class CivosSettings(ConcurrentSettings):
    """See `ConcurrentSettings`, and one of its own.

    Attributes:
        fusion_score_power: see `pipeline.methods.i_pt.IPtSettings`; it weighs what stands in for the learned fusion.
    """

    fusion_score_power: float = 12.0


@dataclass(frozen=True)
class CivosMemory:
    """What one object's round works with: by object id what the segmenter learnt, and the prompted frames."""

    object_id: int
    learnt: Mapping[int, Any]
    task: ObjectRound


class CivosVideo:
    """See `pipeline.methods.base.PerObjectVideo`. One object at a time, and every way begins with an empty memory."""

    clicks_only = True

    def __init__(self, state: VideoState, settings: CivosSettings) -> None:
        self._state, self._settings = state, settings
        self._video = MemoryVideo(state, settings, across_rounds=False)

    @property
    def held_bytes(self) -> int:
        """Bytes of what the ways under way remember."""
        return self._video.held_bytes

    def begin_round(self, task: ObjectRound) -> CivosMemory:
        """Let the segmenter learn what it wants to; the memory itself begins with every way (4.4.3)."""
        return CivosMemory(task.object_id, self._video.begin_round([task]), task)

    def segment_prompted(
        self, frame_index: int, prompts: ObjectPrompts, *, prior: FloatMap | None, memory: CivosMemory | None
    ) -> Estimate:
        """Segment one frame from clicks and the mask it had before (4.4.2).

        Raises:
            FrameError: the frame cannot be read.
        """
        self._state.embedding(frame_index)
        object_id = 0 if memory is None else memory.object_id
        known = () if memory is None else (memory.task,)
        answers = list(self._video.interact([Interaction(object_id, frame_index, prompts, prior)], known))
        return answers[-1][1]

    def propagate(self, anchor: Anchor, frame_indices: range, memory: CivosMemory) -> Iterator[Estimate]:
        """Follow the object from an anchor; its mask is the first thing in a new memory (4.4.3)."""
        # Ways in both directions take turns, so each has frames embedded ahead for itself.
        ahead: EmbeddingPrefetcher[Any] = EmbeddingPrefetcher(self._state.embedding, self._settings.frames_ahead)
        try:
            ahead.prefetch(frame_indices)
            way = self._video.start_pass(memory.object_id, anchor, memory.learnt)
            for frame_index in frame_indices:
                try:
                    embedding = ahead.take(frame_index)
                except FrameError:
                    continue
                (estimate,) = self._video.segment(frame_index, embedding, [way])
                yield replace(estimate, fusion_weight=max(estimate.score, 0.0) ** self._settings.fusion_score_power)
        finally:
            ahead.prefetch(())

    def forget(self, object_id: int) -> None:
        """Drop what the segmenter learnt of an object."""
        self._video.forget(object_id)


@dataclass(frozen=True)
class Civos:
    """See `pipeline.methods.base.Method`. Rounds of clicks within restricted ranges (Eq. 4.2 and 4.3).

    Boxes and scribbles reach it as clicks (Eq. 4.5). Each way has a memory of its own, which begins with the frame it
    leads from and takes in every u-th frame after it, in either direction (4.4.3, 3.1.4).

    Replaced, as they are networks trained for their task: RITM, the interaction module (4.4.2), by the chosen segmenter
    with the clicks and the earlier mask; MiVOS' key and value encoders and its decoder (4.4.3) by the segmenter's own
    features, the share of a cell that the object covers, and the segmenter prompted with what was read; the fusion that
    knows of differences by weighing the passes from both sides by distance and score (I-PT, Eq. 1). What a segmenter
    itself learns of an object, such as the download-free one's network, comes from all prompted frames.
    """

    segmenter: Segmenter
    embeddings: EmbeddingCache[Any]
    settings: CivosSettings = CivosSettings()
    video_keys: Iterator[int] = field(default_factory=itertools.count, repr=False)
    """Tells the videos apart in the cache."""

    def open(self, frames: FrameSource) -> CivosVideo:
        """Start work on a video."""
        return CivosVideo(VideoState(frames, self.segmenter, self.embeddings, next(self.video_keys)), self.settings)
