"""Which frames a segmenter embedded, and when: it is watched from outside, so that no method knows it is measured."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from pipeline.types import FrameRGB

SAMPLE_STEP_PX = 8


def fingerprint(frame_rgb: FrameRGB) -> bytes:
    """Tells the frames of a clip apart by a sample of their pixels, which costs next to nothing."""
    return frame_rgb[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX].tobytes()


class EncoderWatch:
    """Counts embeddings by frame and keeps the times in which an encoder was at work, in whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[bytes] = Counter()
        self._spans_s: list[tuple[float, float]] = []

    @property
    def n_calls(self) -> int:
        """Embeddings made."""
        with self._lock:
            return self._calls.total()

    @property
    def most_per_frame(self) -> int:
        """Embeddings of the frame that was embedded most often; 0 where none was."""
        with self._lock:
            return max(self._calls.values(), default=0)

    def add(self, frame_rgb: FrameRGB, begin_s: float, end_s: float) -> None:
        """Note one embedding and its time by `time.perf_counter`."""
        with self._lock:
            self._calls[fingerprint(frame_rgb)] += 1
            self._spans_s.append((begin_s, end_s))

    def busy_s(self, begin_s: float, end_s: float) -> float:
        """Seconds of a span in which at least one embedding was being made."""
        busy_s, reached_s = 0.0, begin_s
        with self._lock:
            spans_s = sorted(self._spans_s)
        for first_s, last_s in spans_s:
            first_s, last_s = max(first_s, reached_s), min(last_s, end_s)
            if last_s > first_s:
                busy_s += last_s - first_s
                reached_s = last_s
        return busy_s


class WatchedSegmenter:
    """Stands for a segmenter: its ``embed`` is watched, everything else is passed through."""

    def __init__(self, inner: Any, watch: EncoderWatch) -> None:
        self._inner, self._watch = inner, watch

    @property
    def __class__(self) -> Any:
        """The segmenter's class, so that a method may ask what it was given."""
        return type(self._inner)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError("the class of a watched segmenter is that of the segmenter")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, frame_rgb: FrameRGB) -> Any:
        """See `pipeline.segmenters.base.Segmenter`."""
        begin_s = time.perf_counter()
        embedding = self._inner.embed(frame_rgb)
        self._watch.add(frame_rgb, begin_s, time.perf_counter())
        return embedding
