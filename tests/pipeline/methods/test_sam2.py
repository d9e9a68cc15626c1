"""SAM 2 keeps its memory within bounds, does what a session asks, and shares its weights between threads.

The models have random weights: shapes, prompts and memory are real, their masks mean nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Anchor
from pipeline.methods.sam2 import Sam2
from pipeline.methods.sam2_model.network import FrameContext, Sam2Network
from pipeline.methods.sam2_model.video import Sam2Settings, nearest_frames
from pipeline.segmenters.base import FloatMap
from pipeline.session.session import Session
from pipeline.types import BoxPrompt, FrameResult, MaskPrompt, PointPrompt, RunLengthMask
from tests.pipeline.frame_sources import ArrayFrames
from tests.pipeline.methods.sam2_clip import (
    BOX,
    IMAGES,
    MASKS,
    N_FRAMES,
    PROMPTS,
    SIZE,
    by_frame,
    every_model,
    first_mask,
    network,
    opened,
    task,
    tiny_method,
)
from tests.tiny_sam2 import build_tiny_sam2


class CountingNetwork(Sam2Network):
    """Counts how often each picture is embedded."""

    def __init__(self) -> None:
        super().__init__(build_tiny_sam2(), name="counting")
        self.seen: dict[bytes, int] = {}

    def embed(self, frame_rgb: Any) -> Any:
        self.seen[frame_rgb.tobytes()] = self.seen.get(frame_rgb.tobytes(), 0) + 1
        return super().embed(frame_rgb)


def play(session: Session, prompts: Sequence[Any], *object_ids: int) -> list[FrameResult]:
    return list(session.run_round(list(prompts), object_ids=object_ids))


@every_model
def test_a_session_from_the_first_box_to_the_removal_of_an_object(name: str) -> None:
    method = tiny_method(name)
    session = Session(ArrayFrames(IMAGES[:4]), method)
    box = BoxPrompt(1, 0, BOX)
    first = play(session, [box], 1)
    assert [result.frame_index for result in first] == [0, 1, 2, 3]
    assert [result.prompted for result in first] == [True, False, False, False]
    assert all(0.0 <= result.score <= 1.0 for result in first)
    assert any(0 < result.mask.area_px < SIZE[0] * SIZE[1] for result in first)

    click = PointPrompt(1, 2, 40.0, 60.0, positive=False)
    second = play(session, [box, click], 1)
    assert [result.frame_index for result in second] == [2, 1, 3]
    before = {result.frame_index: result.mask for result in first}
    assert any(result.mask != before[result.frame_index] for result in second)
    assert session.results(1)[0].mask == before[0]

    mask = MaskPrompt(2, 3, RunLengthMask.encode(MASKS[3]))
    third = play(session, [mask], 2)
    assert {result.frame_index for result in third if result.object_id == 2} == {0, 1, 2, 3}
    assert session.results(2)[3].mask == mask.mask
    for index in range(4):
        shown = [session.results(object_id)[index].mask.decode() for object_id in (1, 2)]
        assert not (shown[0] & shown[1]).any()

    removed = play(session, [], 2)
    assert {result.frame_index for result in removed if result.object_id == 2} == {0, 1, 2, 3}
    assert all(result.mask.area_px == 0 for result in session.results(2))
    assert session.held_bytes > 0


def test_no_frame_is_embedded_twice() -> None:
    counting = CountingNetwork()
    method = Sam2(counting, EmbeddingCache(256))
    session = Session(ArrayFrames(IMAGES), method)
    play(session, [BoxPrompt(1, 2, BOX)], 1)
    play(session, [BoxPrompt(1, 2, BOX), PointPrompt(1, 6, 40, 60)], 1)
    play(session, [PointPrompt(2, 0, 100, 90), PointPrompt(2, 7, 100, 90)], 2)
    assert len(counting.seen) == N_FRAMES
    assert set(counting.seen.values()) == {1}
    # Another video never gets them.
    play(Session(ArrayFrames(IMAGES), method), [BoxPrompt(1, 2, BOX)], 1)
    assert set(counting.seen.values()) == {2}


@every_model
def test_memory_does_not_grow_with_the_frames(name: str) -> None:
    method = tiny_method(name, cache_mib=4)
    video = opened(method, 60)
    anchor = first_mask(video, 0, PROMPTS["box"])
    memory = video.begin_round(task(anchor))
    before = video.held_bytes
    held, cached = [], []
    for _ in video.propagate(anchor, range(1, 60), memory):
        held.append(video.held_bytes)
        cached.append(method.embeddings.held_bytes)
    n_whole, n_recalled = method.segmenter.n_memory_frames, method.segmenter.n_pointer_frames
    learnt = memory.conditioning[0]
    assert held[0] == before + learnt.nbytes
    pointers = (n_recalled - n_whole) * learnt.pointer_only().nbytes
    assert set(held[n_recalled - 1 :]) == {before + n_whole * learnt.nbytes + pointers}
    assert max(cached) <= 4 * 2**20
    assert video.held_bytes == before
    assert 0 < before == sum(each.nbytes for each in memory.conditioning.values())


def test_a_stopped_pass_gives_its_memory_back() -> None:
    video = opened(tiny_method())
    anchor = Anchor(0, MASKS[0])
    memory = video.begin_round(task(anchor))
    before = video.held_bytes
    running = video.propagate(anchor, range(1, N_FRAMES), memory)
    assert next(running).frame_index == 1
    assert video.held_bytes > before
    running.close()  # type: ignore[attr-defined]
    assert video.held_bytes == before


def test_prompted_frames_are_kept_within_their_bound_and_learned_again() -> None:
    roomy, tight = opened(tiny_method()), opened(tiny_method(settings=Sam2Settings(memory_mib=0.05)))
    anchors = [Anchor(index, MASKS[index]) for index in (0, 4, 7)]
    found = []
    for video in (roomy, tight):
        for _ in range(2):
            memory = video.begin_round(task(*anchors))
        found.append(by_frame(list(video.propagate(anchors[0], range(1, 4), memory))))
    assert tight.held_bytes <= 0.05 * 2**20 < roomy.held_bytes
    for frame_index in found[0]:
        np.testing.assert_array_equal(found[0][frame_index], found[1][frame_index])


def test_frames_that_are_prompted_no_more_are_forgotten() -> None:
    video = opened(tiny_method())
    anchors = [Anchor(index, MASKS[index]) for index in (0, 4, 7)]
    video.begin_round(task(*anchors))
    three = video.held_bytes
    video.begin_round(task(*anchors[:1], object_id=2))
    assert video.held_bytes == three * 4 // 3
    video.begin_round(task(*anchors[:1]))
    assert video.held_bytes == three * 2 // 3


def test_an_accepted_mask_that_differs_from_the_answer_conditions_the_memory() -> None:
    """A person's mask counts, not what the model once answered on that frame."""
    video = opened(tiny_method())
    answered = first_mask(video, 0, PROMPTS["box"])
    painted = Anchor(0, MASKS[0], answered.prompts)
    runs = []
    for anchor in (answered, painted, Anchor(0, MASKS[0])):
        memory = video.begin_round(task(anchor))
        runs.append(next(video.propagate(anchor, range(1, 3), memory)).logits)
    assert np.abs(runs[0] - runs[1]).max() > 1e-2
    np.testing.assert_array_equal(runs[1], runs[2])


@every_model
@pytest.mark.parametrize("present", [True, False])
def test_an_absent_object_has_an_empty_mask_and_a_low_score(name: str, present: bool) -> None:
    video = opened(tiny_method(name, present=present))
    anchor = Anchor(0, MASKS[0])
    estimates = list(video.propagate(anchor, range(1, N_FRAMES), video.begin_round(task(anchor))))
    estimates.append(video.segment_prompted(3, PROMPTS["click"], prior=None, memory=None))
    assert len(estimates) == N_FRAMES
    for estimate in estimates:
        assert np.isfinite(estimate.logits).all()
        assert (0.0 <= estimate.score <= 1.0) if present else (0.0 <= estimate.score < 0.2)
        assert present or (estimate.logits < -1).all()
    assert (max(estimate.logits.max() for estimate in estimates) > 0) == present
    # The probability that it is there is the same everywhere; the predicted IoU is not.
    assert len({round(estimate.score, 6) for estimate in estimates}) > 1
    there = 1 / (1 + np.exp(-2.0 if present else 2.0))
    assert max(estimate.score for estimate in estimates) <= there + 1e-6


def test_an_unreadable_frame_is_left_out() -> None:
    frames = ArrayFrames(IMAGES, broken=frozenset({3}))
    video = tiny_method().open(frames)
    anchor = Anchor(1, MASKS[1])
    found = list(video.propagate(anchor, range(2, 6), video.begin_round(task(anchor))))
    assert [estimate.frame_index for estimate in found] == [2, 4, 5]


def test_a_pass_goes_on_from_a_mask_that_nobody_vouched_for() -> None:
    video = opened(tiny_method())
    prompted = Anchor(0, MASKS[0])
    memory = video.begin_round(task(prompted))
    fresh = by_frame(list(video.propagate(prompted, range(4, 6), memory)))
    went_on = by_frame(list(video.propagate(Anchor(3, MASKS[3]), range(4, 6), memory)))
    assert np.abs(fresh[4] - went_on[4]).max() > 1e-2
    # Without any prompted frame it is all there is to go by.
    alone = by_frame(list(video.propagate(Anchor(3, MASKS[3]), range(4, 6), video.begin_round(task()))))
    own = by_frame(
        list(video.propagate(Anchor(3, MASKS[3]), range(4, 6), video.begin_round(task(Anchor(3, MASKS[3])))))
    )
    np.testing.assert_array_equal(alone[4], own[4])


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [(0, {0, 3, 6, 9, 30}), (1, {6}), (2, {6, 3}), (3, {3, 6, 9}), (4, {0, 3, 6, 9}), (9, {0, 3, 6, 9, 30})],
)
def test_the_nearest_prompted_frames_are_attended_to(limit: int, wanted: set[int]) -> None:
    assert nearest_frames(5, [0, 3, 6, 9, 30], limit) == wanted


def test_a_far_frame_on_the_other_side_comes_before_a_near_one_on_the_same() -> None:
    assert nearest_frames(5, [1, 3, 4, 30], 2) == {4, 30}


def test_the_setting_limits_what_is_attended_to() -> None:
    anchors = [Anchor(index, MASKS[index]) for index in (0, 4, 7)]
    runs = []
    for limit, given in ((2, anchors), (0, anchors[:2]), (0, anchors)):
        video = opened(tiny_method(settings=Sam2Settings(conditioning_frames=limit)))
        runs.append(next(video.propagate(anchors[0], range(1, 4), video.begin_round(task(*given)))).logits)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"), [({"conditioning_frames": -1}, "0 .all. or more"), ({"memory_mib": 0}, "more than 0")]
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sam2Settings(**settings)


def test_frames_of_another_kind_are_refused() -> None:
    for frame in (IMAGES[0][..., 0], IMAGES[0].astype(np.float32)):
        with pytest.raises(ValueError, match=r"a frame must be \(H, W, 3\) uint8"):
            network().embed(frame)


def test_videos_on_several_threads_share_the_weights() -> None:
    method = tiny_method()

    def follow(kind: str) -> list[FloatMap]:
        video = opened(method)
        anchor = first_mask(video, 0, PROMPTS[kind])
        prior = np.where(MASKS[5], 4.0, -4.0).astype(np.float32)
        memory = video.begin_round(task(anchor))
        corrected = video.segment_prompted(5, PROMPTS[kind], prior=prior, memory=memory) if kind != "mask" else None
        followed = [estimate.logits for estimate in video.propagate(anchor, range(1, N_FRAMES), memory)]
        return followed + ([] if corrected is None else [corrected.logits, np.float32([[corrected.score]])])

    wanted = {kind: follow(kind) for kind in PROMPTS}
    found: dict[str, list[FloatMap]] = {}
    together = threading.Barrier(len(PROMPTS))

    def run(kind: str) -> None:
        together.wait()
        found[kind] = follow(kind)

    threads = [threading.Thread(target=run, args=(kind,)) for kind in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kind, maps in wanted.items():
        for one, other in zip(maps, found[kind], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@every_model
def test_16_bits_agree_with_32_and_take_half_the_cache(name: str) -> None:
    networks = [network(name), Sam2Network(build_tiny_sam2(name), name=name, half=True)]
    assert [each.name for each in networks] == [name, f"{name}_half"]
    whole, half = (each.embed(IMAGES[0]) for each in networks)
    assert whole.nbytes == 2 * half.nbytes
    context = FrameContext(0, N_FRAMES)
    one, other = (
        each.take_mask(features, context, MASKS[0]).memory
        for each, features in zip(networks, (whole, half), strict=True)
    )
    compared = [*zip(whole.maps, half.maps, strict=True)]
    compared += [(one.tensors[key], other.tensors[key]) for key in one.tensors]
    for wanted, found in compared:
        assert float((wanted.float() - found.float()).abs().max() / wanted.abs().max()) < 0.03
    tracked = networks[1].track(half, FrameContext(1, N_FRAMES, {0: other}))
    assert tracked.logits.dtype == torch.float32
    assert torch.isfinite(tracked.logits).all()


@every_model
def test_far_frames_are_remembered_by_their_pointer_and_all_share_their_positions(name: str) -> None:
    video = opened(tiny_method(name))
    memory, other = video.begin_round(task(Anchor(0, MASKS[0]), Anchor(3, MASKS[3]))).conditioning.values()
    assert memory.tensors["maskmem_pos_enc"] is other.tensors["maskmem_pos_enc"]
    assert memory.tensors["maskmem_features"] is not other.tensors["maskmem_features"]
    assert set(memory.pointer_only().tensors) == {"object_pointer"}
    assert memory.pointer_only().nbytes < memory.nbytes
