"""A video under CiVOS: one object at a time, and every propagation pass starts with an empty memory (thesis, 4.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.embeddings.prefetch import EmbeddingPrefetcher
from pipeline.methods.base import Anchor, Estimate, Interaction, ObjectRound
from pipeline.methods.civos import CivosSettings
from pipeline.methods.common.video_state import VideoState
from pipeline.methods.concurrent.settings import NewMemory, new_concurrent_memory
from pipeline.methods.concurrent.video import MemoryVideo
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.video.frames import FrameError


@dataclass(frozen=True)
class CivosMemory:
    """One object in one round: what the segmenter learnt of it, by object id, and its prompted frames."""

    object_id: int
    learnt: Mapping[int, Any]
    task: ObjectRound


class CivosVideo:
    """See `pipeline.methods.base.PerObjectVideo`. Every pass starts with an empty memory."""

    clicks_only = True

    def __init__(
        self, state: VideoState, settings: CivosSettings, new_memory: NewMemory = new_concurrent_memory
    ) -> None:
        self._state, self._settings = state, settings
        self._video = MemoryVideo(state, settings, across_rounds=False, new_memory=new_memory)

    @property
    def fusion_score_power(self) -> float:
        """See `CivosSettings`."""
        return self._settings.fusion_score_power

    @property
    def held_bytes(self) -> int:
        """Bytes of what running passes remember."""
        return self._video.held_bytes

    def begin_round(self, task: ObjectRound) -> CivosMemory:
        """Let the segmenter learn from the prompted frames. Every pass starts a memory of its own (4.4.3)."""
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
        # Passes in both directions take turns, so each embeds its own frames in the background.
        ahead: EmbeddingPrefetcher[Any] = EmbeddingPrefetcher(self._state.embedding, self._settings.frames_ahead)
        try:
            ahead.prefetch(frame_indices)
            pass_ = self._video.start_pass(memory.object_id, anchor, memory.learnt)
            for frame_index in frame_indices:
                try:
                    embedding = ahead.take(frame_index)
                except FrameError:
                    continue
                (estimate,) = self._video.segment(frame_index, embedding, [pass_])
                yield estimate
        finally:
            ahead.prefetch(())

    def forget(self, object_id: int) -> None:
        """Drop what the segmenter learnt of an object."""
        self._video.forget(object_id)
