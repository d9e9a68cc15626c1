"""What an encoder did is counted by frame and by the clock, from outside."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.encoder_watch import EncoderWatch, WatchedSegmenter
from pipeline.types import FrameRGB
from tests.pipeline.frame_sources import moving_square

FRAMES, _ = moving_square(3)


class Encoder:
    name = "encoder"

    def embed(self, frame_rgb: FrameRGB) -> float:
        return float(frame_rgb.mean())


def test_embeddings_are_counted_by_what_the_frames_show() -> None:
    watch = EncoderWatch()
    assert (watch.n_calls, watch.most_per_frame) == (0, 0)
    for index in (0, 1, 0, 2, 0):
        watch.add(FRAMES[index].copy(), 0.0, 1.0)
    assert (watch.n_calls, watch.most_per_frame) == (5, 3)


@pytest.mark.parametrize(
    ("spans_s", "busy_s"),
    [
        ([], 0.0),
        ([(1.0, 2.0), (3.0, 5.0)], 3.0),
        ([(3.0, 5.0), (1.0, 4.0)], 4.0),
        ([(1.0, 9.0), (2.0, 3.0)], 8.0),
        ([(-5.0, 1.0), (9.0, 12.0), (20.0, 30.0)], 2.0),
    ],
    ids=["none", "one after the other", "overlapping threads", "one inside another", "cut at both ends"],
)
def test_time_in_which_any_embedding_was_made_counts_once(spans_s: list[tuple[float, float]], busy_s: float) -> None:
    watch = EncoderWatch()
    for begin_s, end_s in spans_s:
        watch.add(FRAMES[0], begin_s, end_s)
    assert watch.busy_s(0.0, 10.0) == pytest.approx(busy_s)


def test_a_watched_segmenter_behaves_as_the_segmenter_itself() -> None:
    watch = EncoderWatch()
    segmenter = WatchedSegmenter(Encoder(), watch)
    assert isinstance(segmenter, Encoder)
    assert segmenter.name == "encoder"
    assert segmenter.embed(FRAMES[0]) == pytest.approx(np.mean(FRAMES[0]))
    assert watch.n_calls == 1
    assert 0.0 < watch.busy_s(0.0, 1e9) < 1.0
    with pytest.raises(AttributeError, match="nothing"):
        _ = segmenter.nothing
