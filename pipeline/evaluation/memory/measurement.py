"""One pass over a long clip, with what its memory holds: one memory policy against another (thesis, 5.5.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.datasets import DatasetError, LongClip
from pipeline.evaluation.metrics import boundary_accuracy, region_similarity
from pipeline.memory.policies import MemoryPolicy
from pipeline.methods.base import ConcurrentVideo, Method, PerObjectVideo
from pipeline.session.session import Session
from pipeline.types import MaskPrompt, RunLengthMask
from pipeline.video.frames import FrameSource

DIVERSITY_EVERY_FRAMES = 10
"""The Gram determinant is computed on one frame in so many; it would slow down a first-in-first-out memory."""


@runtime_checkable
class HasPolicies(Protocol):
    """A video of a method whose memories are kept by policies."""

    @property
    def policies(self) -> Mapping[int, MemoryPolicy]:
        """The policy of each object's memory, by object id."""
        ...


@dataclass(frozen=True)
class MemoryRun:
    """The figures of one pass.

    Attributes:
        jf: (T, O) J&F of every frame and object, nan on frame 0, which is given.
        absent: (T, O) bool, frames that show another clip than the object's own.
        log_dets: (T, O) ln of the Gram determinant of the object's memory; nan where it was not computed, or where
            slots are still free.
        kept: by object id the frames in the memory at the end.
        n_changes: how many frames entered each object's memory, in the order of ``object_ids``.
        seconds: (T,) of the method for each frame, all objects together; frame 0 includes the start of the round.
    """

    object_ids: tuple[int, ...]
    jf: NDArray[np.float64]
    absent: NDArray[np.bool_]
    log_dets: NDArray[np.float64]
    kept: dict[int, tuple[int, ...]]
    n_changes: tuple[int, ...]
    seconds: NDArray[np.float64]


def run_memory(clip: LongClip, method: Method, on_frame: Callable[[int], None] = lambda _n_frames: None) -> MemoryRun:
    """One pass from the true masks of frame 0.

    Args:
        clip: its first frame shows an object; those it does not show are left out.
        method: its memory has a policy.
        on_frame: called with the number of masks so far, for a progress bar.

    Raises:
        DatasetError: frame 0 shows no object.
        ValueError: the method's memory has no policy.
        FrameError: no frame can be read.
    """
    object_ids = tuple(i for i in clip.object_ids if clip.mask(0, i).any())
    if not object_ids:
        raise DatasetError(f"{clip.name} shows no object that counts on frame 0, where the pass begins")
    with_policies = _MethodWithPolicies(method)
    session = Session(clip.frames, with_policies)
    recorder = _PassRecorder(clip, object_ids, with_policies.policies)
    given = [MaskPrompt(i, 0, RunLengthMask.encode(clip.mask(0, i))) for i in object_ids]
    started_s = time.perf_counter()
    for n_masks, result in enumerate(session.run_round(given, object_ids=object_ids), start=1):
        recorder.seconds[result.frame_index] += time.perf_counter() - started_s
        recorder.record_memory(result.object_id, result.frame_index)
        on_frame(n_masks)
        started_s = time.perf_counter()
    for object_id in object_ids:
        recorder.score_masks(object_id, {each.frame_index: each.mask for each in session.results(object_id)})
    return recorder.result()


class _MethodWithPolicies:
    """Stands for a method, and gives access to the memory policies of the video it opened last."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._video: HasPolicies | None = None

    def open(self, frames: FrameSource) -> PerObjectVideo | ConcurrentVideo:
        """See `pipeline.methods.base.Method`."""
        video = self._method.open(frames)
        if not isinstance(video, HasPolicies):
            raise ValueError("the memory of this method has no policy; choose i_pt, idpro or lazy")
        self._video = video
        return video

    def policies(self) -> Mapping[int, MemoryPolicy]:
        """The policies of the open video, by object id."""
        return {} if self._video is None else self._video.policies


class _PassRecorder:
    """Collects the figures of a pass while it runs."""

    def __init__(
        self, clip: LongClip, object_ids: tuple[int, ...], policies: Callable[[], Mapping[int, MemoryPolicy]]
    ) -> None:
        self._clip, self._object_ids, self._policies = clip, object_ids, policies
        shape = len(clip), len(object_ids)
        self._jf, self._log_dets = np.full(shape, np.nan), np.full(shape, np.nan)
        self._kept: dict[int, tuple[int, ...]] = {}
        self._n_changes = dict.fromkeys(object_ids, 0)
        self.seconds = np.zeros(len(clip))

    def record_memory(self, object_id: int, frame_index: int) -> None:
        """Record an object's memory after a frame."""
        policy = self._policies().get(object_id)
        if policy is None:
            return
        kept = policy.kept
        self._n_changes[object_id] += len(set(kept) - set(self._kept.get(object_id, ())))
        self._kept[object_id] = kept
        if frame_index % DIVERSITY_EVERY_FRAMES == 0:
            log_det = policy.log_det
            if log_det is not None:
                self._log_dets[frame_index, self._object_ids.index(object_id)] = log_det

    def score_masks(self, object_id: int, masks: Mapping[int, RunLengthMask]) -> None:
        """Score an object's masks by frame; a frame without one has an empty mask."""
        empty = np.zeros(self._clip.size_hw_px, np.bool_)
        column = self._object_ids.index(object_id)
        for frame_index in range(1, len(self._clip)):
            mask = masks[frame_index].decode() if frame_index in masks else empty
            truth = self._clip.mask(frame_index, object_id)
            self._jf[frame_index, column] = (region_similarity(mask, truth) + boundary_accuracy(mask, truth)) / 2

    def result(self) -> MemoryRun:
        """The figures of the whole pass."""
        absent = [[self._clip.is_absent(t, i) for i in self._object_ids] for t in range(len(self._clip))]
        changes = tuple(self._n_changes[i] for i in self._object_ids)
        absences = np.array(absent, np.bool_)
        return MemoryRun(self._object_ids, self._jf, absences, self._log_dets, self._kept, changes, self.seconds)
