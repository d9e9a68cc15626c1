"""How much longer than its image encoder a method takes: rounds on one clip, encoder and decoder alone, and baselines.

Everything is measured in one run, one after the other, so that quotients of it compare across machines. Encoder and
decoder are timed half before the rounds and half after them: what else the machine does then weighs on all alike.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.options import ROUNDS_EMBEDDING_RAM_MIB
from pipeline.evaluation.results import peak_rss_mib
from pipeline.evaluation.speed.clip import EncodedFrames, grid_boxes
from pipeline.evaluation.timing import EmbeddingLog, LoggedSegmenter, Stopwatch, TimedFrames, timed_method
from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice, build_method
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.session.session import Session
from pipeline.types import BoxPrompt, Prompt, RunLengthMask

DECODER_CALLS = 10
WARM_UP_FRAMES = 2
UNREACHED_RAM_MIB = 16384
"""A bound of the embeddings in memory that no clip of this benchmark reaches, so that none is dropped."""

NAIVE_LOOP = "loop over objects, no cache"
NAIVE_FRAMES = 2
VIDEO_MODEL_FRAMES = 4
VIDEO_MODELS = ("sam2_1_hiera_tiny", "edgetam")

Step = tuple[str, Callable[[], None]]
"""The name of a step, and the function that runs it."""


@dataclass(frozen=True)
class RoundTimes:
    """One round: seconds until its first and its last mask, and seconds in which the encoder was at work.

    ``n_frames`` got masks, ``n_propagated`` of them without a prompt. The session then had ``n_masks``, of which
    ``n_empty`` were empty even before overlaps were resolved.
    """

    first_mask_s: float
    wall_s: float
    encoder_busy_s: float
    n_frames: int
    n_propagated: int
    n_masks: int
    n_empty: int


@dataclass
class SpeedMeasurement:
    """Everything measured once. What could not be measured stays empty.

    ``encoder_s`` are seconds of single frames, ``decoder_s`` of single calls. ``embeddings_per_frame`` counts those of
    the frame that was embedded most often in all rounds of a session, by number of objects. ``by_part_s`` are seconds
    by `timing.PARTS`, of round 1 with one object and with many, and of all later rounds.
    """

    encoder_s: list[float] = field(default_factory=list)
    decoder_s: list[float] = field(default_factory=list)
    one_object: RoundTimes | None = None
    many_objects: RoundTimes | None = None
    later_rounds: list[RoundTimes] = field(default_factory=list)
    by_part_s: dict[str, dict[str, float]] = field(default_factory=dict)
    embeddings: dict[int, int] = field(default_factory=dict)
    embeddings_per_frame: dict[int, int] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    disk_mib: dict[str, float] = field(default_factory=dict)


class SpeedBench:
    """Measures a method on a clip, with boxes on a grid as prompts. The caller runs its `steps`, one by one."""

    def __init__(
        self,
        clip: EncodedFrames,
        method: Method,
        n_objects: int,
        device: str,
        stored_bytes: Callable[[Session], int] | None = None,
    ) -> None:
        """Nothing is measured yet.

        Args:
            clip: all of its frames are measured on.
            method: its segmenter is a field of that name.
            n_objects: how many objects to compare with one.
            device: the torch device in use.
            stored_bytes: how much a session takes on disk; None leaves that out.
        """
        self.clip, self.method, self.n_objects, self.device = clip, method, n_objects, device
        self.stored_bytes = stored_bytes
        self.boxes = grid_boxes(n_objects, clip.size_hw_px)
        self.measurements: list[SpeedMeasurement] = []

    @property
    def segmenter(self) -> Any:
        """The method's."""
        method: Any = self.method
        return method.segmenter

    @property
    def later_frames(self) -> tuple[int, ...]:
        """Frames that later rounds prompt, one each; round 1 has frame 0."""
        n = len(self.clip)
        return tuple(index for index in dict.fromkeys((n // 2, n // 4, 3 * n // 4)) if index)

    def steps(self, repeats: int) -> Iterator[Step]:
        """The steps of all repeats in order. They begin with a warm-up that is not kept, as first calls are slower."""
        short = SpeedBench(self.clip.first(WARM_UP_FRAMES), self.method, self.n_objects, self.device)
        not_kept = SpeedMeasurement()
        yield "warm-up: encoder", partial(short._encode, not_kept, 0)
        yield "warm-up: decoder", partial(short._decode, not_kept)
        yield "warm-up: rounds", partial(short._many_objects, not_kept)
        for _ in range(repeats):
            current = SpeedMeasurement()
            self.measurements.append(current)
            yield "image encoder", partial(self._encode, current, 0)
            yield "decoder", partial(self._decode, current)
            yield "one object", partial(self._one_object, current)
            yield "decoder, second half", partial(self._decode, current)
            yield "image encoder, second half", partial(self._encode, current, 1)
            yield f"{self.n_objects} objects", partial(self._many_objects, current)

    def now_s(self) -> float:
        """Seconds by a clock that first waits until the GPU has finished."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _encode(self, current: SpeedMeasurement, half: int) -> None:
        """Embed every second frame; they are read before the clock runs."""
        images = [self.clip.frame(index) for index in range(half, len(self.clip), 2)]
        gc.collect()
        for image in images:
            begin_s = self.now_s()
            self.segmenter.embed(image)
            current.encoder_s.append(self.now_s() - begin_s)

    def _decode(self, current: SpeedMeasurement) -> None:
        """Decode one box on one embedded frame: half of the calls."""
        embedding = self.segmenter.embed(self.clip.frame(0))
        prompts = PromptBatch((ObjectPrompts(box_xyxy_px=self.boxes[0]),))
        for _ in range(DECODER_CALLS // 2):
            begin_s = self.now_s()
            self.segmenter.segment(embedding, prompts)
            current.decoder_s.append(self.now_s() - begin_s)

    def _one_object(self, current: SpeedMeasurement) -> None:
        """Run round 1 from a box on frame 0, then rounds that each prompt one frame more."""
        run = _MeasuredSession(self)
        prompts: list[Prompt] = [BoxPrompt(1, 0, self.boxes[0])]
        current.one_object = run.round(prompts)
        run.record_resources(current, "one_object")
        for frame_index in self.later_frames:
            prompts = [*prompts, BoxPrompt(1, frame_index, self.boxes[0])]
            current.later_rounds.append(run.round(prompts))
        run.record_parts(current, "later_rounds")
        run.record_embeddings(current, 1)

    def _many_objects(self, current: SpeedMeasurement) -> None:
        """Run round 1 from a box for each object on frame 0, in a new session."""
        run = _MeasuredSession(self)
        current.many_objects = run.round([BoxPrompt(i, 0, box) for i, box in enumerate(self.boxes, start=1)])
        run.record_resources(current, "many_objects")
        run.record_embeddings(current, self.n_objects)


class _MeasuredSession:
    """A new session with an embedding cache of its own, measured from outside."""

    def __init__(self, bench: SpeedBench) -> None:
        gc.collect()
        self._bench = bench
        self._log = EmbeddingLog()
        self._embeddings: EmbeddingCache[Any] = EmbeddingCache(UNREACHED_RAM_MIB)
        self._stopwatch = Stopwatch()
        self._recorded_s = self._stopwatch.seconds
        method: Any = bench.method
        segmenter = LoggedSegmenter(bench.segmenter, self._log)
        fresh = dataclasses.replace(method, segmenter=segmenter, embeddings=self._embeddings)
        self._session = Session(TimedFrames(bench.clip, self._stopwatch), timed_method(fresh, self._stopwatch))

    def round(self, prompts: list[Prompt]) -> RoundTimes:
        """Run one round and time it."""
        begin_s = self._bench.now_s()
        first_s: float | None = None
        frames: set[int] = set()
        with self._stopwatch.part("other"):
            for result in self._session.run_round(prompts, object_ids={prompt.object_id for prompt in prompts}):
                first_s = first_s or self._bench.now_s()
                frames.add(result.frame_index)
        end_s = self._bench.now_s()
        raw = [each for i in self._session.object_ids() for each in self._session.raw_results(i)]
        return RoundTimes(
            first_mask_s=(first_s or end_s) - begin_s,
            wall_s=end_s - begin_s,
            encoder_busy_s=self._log.busy_s(begin_s, end_s),
            n_frames=len(frames),
            n_propagated=len(frames - {prompt.frame_index for prompt in prompts}),
            n_masks=len(raw),
            n_empty=sum(not each.mask.area_px for each in raw),
        )

    def record_resources(self, current: SpeedMeasurement, name: str) -> None:
        """Record the seconds by part, the session's memory and disk, and the peak memory of the process."""
        self.record_parts(current, name)
        current.memory_mib[f"{name}_embeddings"] = self._embeddings.held_bytes / 2**20
        current.memory_mib[f"{name}_session"] = self._session.held_bytes / 2**20
        current.memory_mib[f"{name}_peak_rss"] = peak_rss_mib()
        if self._bench.stored_bytes is not None:
            current.disk_mib[f"{name}_stored"] = self._bench.stored_bytes(self._session) / 2**20

    def record_parts(self, current: SpeedMeasurement, name: str) -> None:
        """Record the seconds by part since they were last recorded."""
        seconds = self._stopwatch.seconds
        current.by_part_s[name] = {part: seconds[part] - self._recorded_s[part] for part in seconds}
        self._recorded_s = seconds

    def record_embeddings(self, current: SpeedMeasurement, n_objects: int) -> None:
        """Record how often frames were embedded in this session."""
        current.embeddings[n_objects] = self._log.n_calls
        current.embeddings_per_frame[n_objects] = self._log.most_per_frame


@dataclass(frozen=True)
class ComparisonRow:
    """One row of the comparison: seconds per frame for so many objects, measured on ``frames_timed`` of the frames.

    ``weights`` is "published", "random" or "none needed"; ``problem`` says in one line why there is no figure.
    """

    name: str
    objects: int
    frames_timed: int = 0
    seconds_per_frame: float | None = None
    weights: str = ""
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        return asdict(self)


Comparison = tuple[ComparisonRow, Callable[[], ComparisonRow]]
"""An empty row of the comparison, and the function that measures it."""


def weights_used(name: str, store: ModelStore) -> str:
    """Which weights a part has on this machine, where random ones replace missing ones; see `ComparisonRow`."""
    if name not in load_registry():
        return "none needed"
    return "published" if store.has(name) else "random"


def time_naive_loop(bench: SpeedBench, n_objects: int, weights: str) -> ComparisonRow:
    """For each object and frame: read, embed, decode from the same box, encode the mask. Nothing is cached."""
    n_frames = min(NAIVE_FRAMES, len(bench.clip))
    begin_s = bench.now_s()
    for box in bench.boxes[:n_objects]:
        prompts = PromptBatch((ObjectPrompts(box_xyxy_px=box),))
        for frame_index in range(n_frames):
            embedding = bench.segmenter.embed(bench.clip.frame(frame_index))
            found = bench.segmenter.segment(embedding, prompts)
            logits = bench.segmenter.to_full_size(embedding, found.low_res_logits[0, 0])
            RunLengthMask.encode(np.asarray(logits > 0))
    seconds = bench.now_s() - begin_s
    return ComparisonRow(NAIVE_LOOP, n_objects, n_frames, seconds / n_frames, weights)


def time_video_model(bench: SpeedBench, name: str, store: ModelStore) -> ComparisonRow:
    """Time a video model of transformers, in method sam2: one object from the same box.

    Raises:
        ValueError: its packages are not installed, or the device cannot be used.
    """
    method = build_method(
        MethodChoice("sam2", name),
        store=store,
        device=bench.device,
        embeddings=EmbeddingCache(ROUNDS_EMBEDDING_RAM_MIB),
        random_weights=True,
    )
    n_frames = min(VIDEO_MODEL_FRAMES, len(bench.clip))

    def one_round(frames_shown: int) -> float:
        session = Session(bench.clip.first(frames_shown), method)
        begin_s = bench.now_s()
        list(session.run_round([BoxPrompt(1, 0, bench.boxes[0])], object_ids=[1]))
        return bench.now_s() - begin_s

    one_round(1)
    return ComparisonRow(f"sam2, {name}", 1, n_frames, one_round(n_frames) / n_frames, weights_used(name, store))


def comparisons(bench: SpeedBench, store: ModelStore, weights: str) -> list[Comparison]:
    """Everything to compare with: an empty row, and the function that measures it.

    Args:
        bench: whose clip, segmenter and boxes are taken.
        store: the model zoo on this machine.
        weights: of the segmenter, as `weights_used` names them.
    """
    loops = [
        (ComparisonRow(NAIVE_LOOP, n_objects), partial(time_naive_loop, bench, n_objects, weights))
        for n_objects in dict.fromkeys((1, bench.n_objects))
    ]
    return [
        *loops,
        *((ComparisonRow(f"sam2, {name}", 1), partial(time_video_model, bench, name, store)) for name in VIDEO_MODELS),
    ]
