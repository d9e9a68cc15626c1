"""CiVOS: clicks alone, and a memory that begins anew with every pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory import shared
from pipeline.methods.base import Anchor, ConcurrentVideo, ObjectRound
from pipeline.methods.civos import Civos, CivosSettings
from pipeline.methods.concurrent.civos_video import CivosVideo
from pipeline.segmenters.base import ObjectPrompts, Segmenter
from pipeline.video.frames import FrameError
from tests.built_methods import lite_segmenter
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter

N_FRAMES = 13
IMAGES, MASKS = moving_square(n_frames=N_FRAMES)
CLICKS = ObjectPrompts(np.array([[60.0, 60.0], [90.0, 20.0]], np.float32), np.array([True, False]))


def opened(segmenter: Segmenter, *, broken: frozenset[int] = frozenset(), **settings: object) -> CivosVideo:
    method = Civos(segmenter, EmbeddingCache(256), replace(CivosSettings(), **settings))  # type: ignore[arg-type]
    return method.open(ArrayFrames(IMAGES, broken))


def task(*frames: int) -> ObjectRound:
    anchors = tuple(Anchor(frame, MASKS[frame]) for frame in frames)
    return ObjectRound(1, 1, anchors, frozenset(range(N_FRAMES)) - set(frames))


def test_it_takes_one_object_at_a_time_and_clicks_alone() -> None:
    video = opened(RecordingSegmenter())
    assert video.clicks_only
    assert not isinstance(video, ConcurrentVideo)


@pytest.mark.parametrize("frames", [range(7, 13), range(5, -1, -1)])
@pytest.mark.parametrize("kind", ["recording", "lite"])
def test_an_object_is_followed_in_both_directions(frames: range, kind: str) -> None:
    video = opened(RecordingSegmenter() if kind == "recording" else lite_segmenter())
    found = list(video.propagate(Anchor(6, MASKS[6]), frames, video.begin_round(task(6))))
    assert [each.frame_index for each in found] == list(frames)
    for each in found:
        mask, truth = each.logits > 0, MASKS[each.frame_index]
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_every_way_reads_where_it_began_and_not_the_other_prompted_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    memories: list[list[int]] = []
    read = shared.read

    def recorded(query: object, keys: dict[int, object], *rest: object) -> object:
        memories.append(sorted(keys))
        return read(query, keys, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shared, "read", recorded)
    video = opened(RecordingSegmenter(), last_frames=1, interval_frames=2, memory_slots=2)
    memory = video.begin_round(task(0, 12))
    list(video.propagate(Anchor(0, MASKS[0]), range(1, 8), memory))
    assert memories == [[0], [0, 1], [0, 2], [0, 2, 3], [0, 2, 4], [0, 2, 4, 5], [0, 4, 6]]
    memories.clear()
    list(video.propagate(Anchor(12, MASKS[12]), range(11, 9, -1), memory))
    assert memories == [[12], [11, 12]]


def test_passes_may_take_turns() -> None:
    video = opened(RecordingSegmenter())
    memory = video.begin_round(task(6))
    forward = video.propagate(Anchor(6, MASKS[6]), range(7, 12), memory)
    backward = video.propagate(Anchor(6, MASKS[6]), range(5, 0, -1), memory)
    taken = [(next(forward).frame_index, next(backward).frame_index) for _ in range(5)]
    assert taken == [(7, 5), (8, 4), (9, 3), (10, 2), (11, 1)]
    assert video.held_bytes > 0


def test_unreadable_frames_are_left_out() -> None:
    video = opened(RecordingSegmenter(), broken=frozenset({3, 9}))
    memory = video.begin_round(task(0, 9))
    found = list(video.propagate(Anchor(0, MASKS[0]), range(1, 6), memory))
    assert [each.frame_index for each in found] == [1, 2, 4, 5]
    with pytest.raises(FrameError):
        video.segment_prompted(3, CLICKS, prior=None, memory=memory)


@pytest.mark.parametrize("with_memory", [True, False])
def test_clicks_are_answered_with_the_mask_the_frame_had(with_memory: bool) -> None:
    segmenter = RecordingSegmenter()
    video = opened(segmenter)
    memory = video.begin_round(task(0)) if with_memory else None
    prior = np.where(MASKS[5], 4.0, -4.0).astype(np.float32)
    found = video.segment_prompted(5, CLICKS, prior=prior, memory=memory)
    assert found.frame_index == 5
    assert (found.logits > 0).any()
    assert all(call.has_mask_input for call in segmenter.calls)
    assert [call.prompts[0] for call in segmenter.calls] == [CLICKS] * len(segmenter.calls)


def test_an_object_is_forgotten() -> None:
    segmenter = RecordingSegmenter()
    video = opened(segmenter)
    for _ in range(2):
        video.begin_round(task(0))
    assert segmenter.learnt_from == [1]
    video.forget(1)
    video.begin_round(task(0))
    assert segmenter.learnt_from == [1, 1]
