"""Rounds timed beside their encoder: what is counted, and the quotients made of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.speed.clip import EncodedFrames
from pipeline.evaluation.speed.measurement import (
    NAIVE_FRAMES,
    NAIVE_LOOP,
    RoundTimes,
    SpeedBench,
    SpeedMeasurement,
    time_naive_loop,
)
from pipeline.evaluation.speed.report import SpeedRun, is_met, ratios_of, speed_report, targets
from pipeline.methods.choice import MethodChoice, build_method
from pipeline.video.frames import FrameSource
from tests.built_methods import NOWHERE
from tests.pipeline.evaluation.speed.box_method import BoxMethod, BoxSegmenter, BoxVideo
from tests.pipeline.frame_sources import moving_square
from tests.tiny_sam import register

N_FRAMES, N_OBJECTS = 6, 3
EMBED_S, SEGMENT_S = 0.1, 0.02
RUN = SpeedRun("a_method", "a_segmenter", "random", "a_clip", 1, 0.5)


def round_of(wall_s: float, first_mask_s: float = 0.1, n_propagated: int = 4) -> RoundTimes:
    return RoundTimes(first_mask_s, wall_s, 0.9 * wall_s, N_FRAMES, n_propagated, N_FRAMES, 0)


@pytest.fixture(scope="module")
def bench() -> SpeedBench:
    """One with everything measured once, by a method whose parts take a known time."""
    images, _ = moving_square(N_FRAMES)
    bench = SpeedBench(EncodedFrames.of(images), BoxMethod(BoxSegmenter(EMBED_S, SEGMENT_S)), N_OBJECTS, "cpu")
    for _, step in bench.steps(1):
        step()
    return bench


def test_a_measurement_counts_every_frame_of_every_round(bench: SpeedBench) -> None:
    (measured,) = bench.measurements
    assert len(measured.encoder_s) == N_FRAMES
    assert len(measured.decoder_s) == 10
    assert measured.one_object is not None
    assert measured.many_objects is not None
    assert measured.one_object.n_frames == measured.many_objects.n_frames == N_FRAMES
    assert measured.one_object.n_propagated == N_FRAMES - 1
    assert measured.many_objects.n_masks == N_OBJECTS * N_FRAMES
    assert measured.many_objects.n_empty == 0
    assert bench.later_frames == (3, 1, 4)
    # Between frame 3, before it and behind it; between 0 and 3; behind 3.
    assert [each.n_propagated for each in measured.later_rounds] == [4, 1, 1]
    assert measured.embeddings == {1: N_FRAMES, N_OBJECTS: N_FRAMES}
    assert measured.embeddings_per_frame == {1: 1, N_OBJECTS: 1}
    assert measured.memory_mib["many_objects_embeddings"] == pytest.approx(N_FRAMES * 4 * 120 * 160 / 2**20)
    assert measured.memory_mib["one_object_peak_rss"] > 50


def test_a_measurement_times_each_part(bench: SpeedBench) -> None:
    (measured,) = bench.measurements
    one, many = measured.one_object, measured.many_objects
    assert one is not None
    assert many is not None
    assert min(measured.encoder_s) >= EMBED_S
    assert EMBED_S > min(measured.decoder_s) >= SEGMENT_S
    assert N_FRAMES * EMBED_S <= one.encoder_busy_s < one.wall_s
    assert one.first_mask_s >= EMBED_S + SEGMENT_S
    assert one.wall_s >= N_FRAMES * (EMBED_S + SEGMENT_S)
    assert many.wall_s >= N_FRAMES * (EMBED_S + N_OBJECTS * SEGMENT_S)
    for later in measured.later_rounds:
        assert later.encoder_busy_s == 0.0
        assert SEGMENT_S <= later.first_mask_s < EMBED_S + SEGMENT_S
    by_part = measured.by_part_s["one_object"]
    assert by_part["embed"] == pytest.approx(one.encoder_busy_s, rel=0.05)
    assert by_part["segment"] >= N_FRAMES * SEGMENT_S
    assert by_part["decode"] > 0
    later = measured.by_part_s["later_rounds"]
    assert later["embed"] == 0.0
    assert SEGMENT_S * 6 <= later["segment"] <= sum(each.wall_s for each in measured.later_rounds)
    assert measured.by_part_s["many_objects"]["segment"] >= N_FRAMES * N_OBJECTS * SEGMENT_S


def test_a_part_that_was_not_run_has_no_figure(bench: SpeedBench) -> None:
    fresh = SpeedBench(bench.clip, bench.method, 2, "cpu")
    for name, step in fresh.steps(1):
        if name == "one object":
            step()
    ratios = ratios_of(fresh.measurements[0], N_FRAMES)
    known = {name for name, ratio in ratios.items() if ratio is not None}
    assert known == {"later_round_vs_round1", "encoder_busy", "memory_share"}


def test_a_frame_that_is_embedded_again_is_counted(bench: SpeedBench) -> None:
    class Forgetful(EmbeddingCache[Any]):
        def get_or_make(self, key: Hashable, make: Callable[[], Any]) -> Any:  # noqa: ARG002
            return make()

    @dataclass(frozen=True)
    class Wasteful(BoxMethod):
        def open(self, frames: FrameSource) -> BoxVideo:
            return super(Wasteful, replace(self, embeddings=Forgetful(1))).open(frames)

    wasteful = SpeedBench(bench.clip, Wasteful(BoxSegmenter(0.0, 0.0)), 2, "cpu")
    for _, step in wasteful.steps(2):
        step()
    assert len(wasteful.measurements) == 2
    assert wasteful.measurements[0].embeddings_per_frame[1] > 1
    document = speed_report(wasteful, RUN, [], {}, complete=True)
    assert document["counts"]["embeddings_per_frame"] == wasteful.measurements[0].embeddings_per_frame[1]


def test_the_ratios_are_quotients_of_what_was_measured() -> None:
    measured = SpeedMeasurement(
        encoder_s=[1.0, 1.0, 2.0, 2.0, 1.5, 1.5],
        decoder_s=[0.1, 0.1, 9.0],
        one_object=round_of(12.0),
        many_objects=round_of(18.0),
        later_rounds=[round_of(2.0, 0.15, 4), round_of(2.0, 0.2, 2), round_of(1.0, 8.0, 2), round_of(1.0, 0.2, 0)],
        by_part_s={
            "one_object": {"embed": 9.0, "memory": 1.0},
            "later_rounds": {"segment": 3.0, "memory": 1.0},
            "many_objects": {"memory": 1.0},
        },
    )
    assert ratios_of(measured, N_FRAMES) == {
        "round1_vs_encoder": pytest.approx(2.0 / 1.5),
        "ten_objects_vs_one": pytest.approx(1.5),
        "later_round_vs_round1": pytest.approx(0.5 / 2.0),
        "first_mask_vs_decoder": pytest.approx(2.0),
        "encoder_busy": pytest.approx(0.9),
        "memory_share": pytest.approx(0.25),
    }
    assert set(ratios_of(SpeedMeasurement(), N_FRAMES).values()) == {None}


@pytest.mark.parametrize(
    ("segmenter", "device", "limit"),
    [("mobile_sam", "cpu", 2.0), ("sam_vit_b", "cpu", 1.3), ("mobile_sam", "cuda", 1.3)],
)
def test_more_objects_weigh_less_beside_a_heavy_encoder_or_on_a_gpu(segmenter: str, device: str, limit: float) -> None:
    assert targets(segmenter, device)["ten_objects_vs_one"] == {"at_most": limit}


@pytest.mark.parametrize(
    ("ratio", "target", "met"),
    [
        (0.3, {"at_most": 0.3}, True),
        (0.31, {"at_most": 0.3}, False),
        (0.85, {"at_least": 0.85}, True),
        (0.84, {"at_least": 0.85}, False),
        (None, {"at_least": 0.85}, None),
    ],
)
def test_a_target_is_met_or_not(ratio: float | None, target: dict[str, float], met: bool | None) -> None:
    assert is_met(ratio, target) is met


def test_the_report_takes_the_median_of_the_repeats(bench: SpeedBench) -> None:
    several = SpeedBench(bench.clip, bench.method, N_OBJECTS, "cpu")
    several.measurements = [
        SpeedMeasurement(one_object=round_of(10.0), many_objects=round_of(10.0 * factor)) for factor in (1.2, 5.0, 1.4)
    ]
    document = speed_report(several, RUN, [], {"decoder": "failed"}, complete=False)
    assert document["ratios"]["ten_objects_vs_one"] == pytest.approx(1.4)
    assert document["met"]["ten_objects_vs_one"] is True
    assert document["ratios"]["round1_vs_encoder"] is document["met"]["round1_vs_encoder"] is None
    assert document["seconds"]["round1_many_objects"] == [12.0, 50.0, 14.0]
    assert document["problems"] == {"decoder": "failed"}
    assert document["complete"] is False


def test_before_anything_is_measured_there_is_a_report_without_figures(bench: SpeedBench) -> None:
    document = speed_report(SpeedBench(bench.clip, bench.method, 2, "cpu"), RUN, [], {}, complete=False)
    assert set(document["ratios"].values()) == {None}
    assert document["counts"]["embeddings_per_frame"] is None


def test_the_naive_loop_embeds_every_frame_for_every_object(bench: SpeedBench) -> None:
    one, three = time_naive_loop(bench, 1, "random"), time_naive_loop(bench, N_OBJECTS, "random")
    assert (one.name, one.objects, three.objects) == (NAIVE_LOOP, 1, N_OBJECTS)
    assert one.frames_timed == three.frames_timed == NAIVE_FRAMES
    assert one.seconds_per_frame is not None
    assert three.seconds_per_frame is not None
    assert three.seconds_per_frame > 2 * one.seconds_per_frame


@pytest.mark.cuda
def test_on_a_gpu_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    choice = MethodChoice("idpro", "sam_vit_b")
    cache: EmbeddingCache[Any] = EmbeddingCache(1024)
    method = build_method(choice, store=NOWHERE, device="cuda", embeddings=cache, random_weights=True)
    images, _ = moving_square(N_FRAMES)
    on_gpu = SpeedBench(EncodedFrames.of(images), method, N_OBJECTS, "cuda")
    for _, step in on_gpu.steps(1):
        step()
    document = speed_report(on_gpu, RUN, [], {}, complete=True)
    assert None not in document["ratios"].values()
    assert document["memory_mib"]["peak_gpu"] > 1
    assert document["counts"]["embeddings_per_frame"] == 1
