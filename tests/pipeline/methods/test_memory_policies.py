"""Memory policies at work in the methods: what these read and hold stays the same, however long the video is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory import crstm, shared
from pipeline.memory.policy_settings import POLICIES
from pipeline.methods.base import Anchor, ObjectRound
from pipeline.methods.choice import MethodChoice
from pipeline.methods.civos import Civos, CivosSettings
from pipeline.methods.concurrent.settings import ConcurrentSettings
from pipeline.methods.concurrent.video import MemoryVideo
from pipeline.methods.i_pt import IPt, IPtSettings
from pipeline.methods.idpro import IdPro
from pipeline.methods.per_object.tracked_video import TrackedVideo
from pipeline.segmenters.base import Segmenter
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.points.lucas_kanade import LucasKanade
from tests.built_methods import built, lite_segmenter
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter

N_FRAMES, SLOTS = 21, 3
IMAGES, MASKS = moving_square(N_FRAMES, (72, 128), step_px=3, side_px=32)
START = ObjectRound(1, 1, (Anchor(0, MASKS[0]),), frozenset(range(1, N_FRAMES)))


def concurrent(segmenter: Segmenter, policy: str) -> MemoryVideo:
    settings = ConcurrentSettings(memory_policy=policy, memory_slots=SLOTS, interval_frames=2, memory_similarity=-1.0)
    return IdPro(segmenter, EmbeddingCache(256), settings).open(ArrayFrames(IMAGES))


def tracked(segmenter: Segmenter, policy: str) -> TrackedVideo:
    settings = IPtSettings(
        memory_policy=policy, memory_slots=SLOTS, memory_interval_frames=2, memory_similarity=-1.0, use_boxes=False
    )
    method = IPt(segmenter, LucasKanade(), MaskBox(), EmbeddingCache(256), replace(settings, refinement_iterations=0))
    return method.open(ArrayFrames(IMAGES))


def overlap(logits: Any, frame_index: int) -> float:
    mask, truth = logits > 0, MASKS[frame_index]
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["recording", "lite"])
def test_a_way_reads_no_more_frames_however_far_it_goes(
    policy: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_frames: list[list[int]] = []
    read = shared.read

    def recorded(query: torch.Tensor, keys: dict[int, torch.Tensor], *rest: Any) -> torch.Tensor:
        read_frames.append(sorted(keys))
        return read(query, keys, *rest)

    monkeypatch.setattr(shared, "read", recorded)
    video = concurrent(RecordingSegmenter() if kind == "recording" else lite_segmenter(), policy)
    memory = video.begin_round([START])
    pass_ = video.start_pass(1, START.anchors[0], memory)
    video.prefetch(range(1, N_FRAMES))
    held = []
    for frame in range(1, N_FRAMES):
        (estimate,) = video.step(frame, [pass_], memory)
        held.append(video.held_bytes)
    assert overlap(estimate.logits, N_FRAMES - 1) > 0.85
    full = 2 * SLOTS + 1
    assert [len(frames) for frames in read_frames[full:]] == [1 + SLOTS] * (N_FRAMES - 1 - full)
    assert all(frames[0] == 0 for frames in read_frames), "the prompted frame is permanent"
    assert len(set(held[full:])) <= 2, "beside what is kept only the frame offered last is held"
    assert video.policies[1].kept == tuple(sorted(video.policies[1].kept))
    if policy == "fifo":
        assert video.policies[1].kept == (16, 18, 20)
    else:
        assert video.policies[1].kept != (16, 18, 20)
        assert video.policies[1].log_det is not None


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["recording", "lite"])
def test_the_space_time_memory_has_no_more_cells_however_long_the_clip(
    policy: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells: list[int] = []
    read = crstm.read

    def recorded(keys: torch.Tensor, *rest: Any) -> torch.Tensor:
        cells.append(keys.shape[1])
        return read(keys, *rest)

    monkeypatch.setattr(crstm, "read", recorded)
    video = tracked(RecordingSegmenter() if kind == "recording" else lite_segmenter(), policy)
    memory = video.begin_round(START)
    assert memory.bank is not None
    found = list(video.propagate(START.anchors[0], range(1, N_FRAMES), memory))
    assert min(overlap(each.logits, each.frame_index) for each in found) > 0.8
    assert len(memory.bank.frame_indices) == 1 + SLOTS
    assert memory.bank.interaction_frames == (0,)
    assert set(memory.bank.frame_indices) - {0} == set(video.policies[1].kept)
    if kind == "recording":
        assert cells == [cells[0] * (1 + min(SLOTS, done // 2)) for done in range(N_FRAMES - 1)]
    assert video.held_bytes > memory.bank.nbytes


def test_more_frames_pinned_in_a_later_round_stay_beside_the_slots() -> None:
    video = tracked(RecordingSegmenter(), "fifo")
    memory = video.begin_round(START)
    list(video.propagate(START.anchors[0], range(1, N_FRAMES), memory))
    anchors = tuple(Anchor(frame, MASKS[frame]) for frame in (0, 16, 19))
    later = video.begin_round(ObjectRound(1, 2, anchors, frozenset({17, 18})))
    assert later.bank is not None
    assert later.bank.interaction_frames == (0, 16, 19)
    assert set(later.bank.frame_indices) == {0, 16, 19, 20}
    assert video.policies[1].kept == (20,)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_pass_of_civos_has_slots_of_its_own(policy: str) -> None:
    settings = replace(CivosSettings(), memory_policy=policy, memory_slots=SLOTS, interval_frames=2)
    video = Civos(RecordingSegmenter(), EmbeddingCache(256), settings).open(ArrayFrames(IMAGES))
    memory = video.begin_round(START)
    found = list(video.propagate(START.anchors[0], range(1, N_FRAMES), memory))
    assert len(found) == N_FRAMES - 1
    assert overlap(found[-1].logits, N_FRAMES - 1) > 0.85


@pytest.mark.parametrize("method", ["i_pt", "idpro", "civos", "lazy"])
@pytest.mark.parametrize(
    ("option", "said"),
    [({"memory_policy": "lru"}, "known are fifo, readmem"), ({"memory_slots": -2}, "-2 slots")],
)
def test_settings_that_do_not_fit_are_refused_with_what_is_known(
    method: str, option: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        built(MethodChoice(method, "lite", options=option))


def test_the_default_of_i_pt_forgets_nothing_in_a_short_clip() -> None:
    settings = IPtSettings()
    assert settings.memory_slots * settings.memory_interval_frames >= 100
