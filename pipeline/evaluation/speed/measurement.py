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
from pipeline.evaluation.results import peak_rss_mib
from pipeline.evaluation.speed.clip import EncodedFrames, grid_boxes
from pipeline.evaluation.timing import EncoderWatch, Stopwatch, TimedFrames, WatchedSegmenter, timed_method
from pipeline.methods import MethodChoice, build_method
from pipeline.methods.base import Method
from pipeline.segmenters.base import ObjectPrompts, PromptBatch
from pipeline.session.session import Session
from pipeline.types import BoxPrompt, Prompt, RunLengthMask

DECODER_CALLS = 10
WARM_UP_FRAMES = 2
EMBEDDING_RAM_MIB = 16384
"""A bound that no clip of a benchmark reaches, so that nothing is dropped."""

Step = tuple[str, Callable[[], None]]
"""The name of a part, and what measures it."""


@dataclass(frozen=True)
class RoundTimes:
    """One round: seconds until its first mask and its last one, and those in which the encoder was at work.

    ``n_frames`` had masks of it, ``n_propagated`` of them without a prompt. Of the session's ``n_masks`` then,
    ``n_empty`` were empty already before other objects took pixels.
    """

    first_mask_s: float
    wall_s: float
    encoder_busy_s: float
    n_frames: int
    n_propagated: int
    n_masks: int
    n_empty: int


@dataclass
class SpeedPass:
    """Everything measured once. What could not be measured stays empty.

    ``encoder_s`` are seconds of single frames, ``decoder_s`` those of single calls. ``embeddings_per_frame`` is of the
    frame that was embedded most often, over all rounds of a session, by number of objects. ``by_part_s`` are seconds of
    round 1 by `timing.PARTS`.
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
    """Measures a method on a clip with boxes on a grid as prompts; who runs its `steps` may stop between any two."""

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
        self.passes: list[SpeedPass] = []

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
        """The parts of all passes in order, after a warm-up that is not kept: first calls are slower than others."""
        few = SpeedBench(self.clip.first(WARM_UP_FRAMES), self.method, self.n_objects, self.device)
        dropped = SpeedPass()
        yield "warm-up: encoder", partial(few._encode, dropped, 0)
        yield "warm-up: decoder", partial(few._decode, dropped)
        yield "warm-up: rounds", partial(few._many_objects, dropped)
        for _ in range(repeats):
            current = SpeedPass()
            self.passes.append(current)
            yield "image encoder", partial(self._encode, current, 0)
            yield "decoder", partial(self._decode, current)
            yield "one object", partial(self._one_object, current)
            yield "decoder, second half", partial(self._decode, current)
            yield "image encoder, second half", partial(self._encode, current, 1)
            yield f"{self.n_objects} objects", partial(self._many_objects, current)

    def now_s(self) -> float:
        """A clock that waits for what was asked of a GPU."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _encode(self, current: SpeedPass, half: int) -> None:
        """Every second frame, read before the clock runs."""
        images = [self.clip.frame(index) for index in range(half, len(self.clip), 2)]
        gc.collect()
        for image in images:
            begin_s = self.now_s()
            self.segmenter.embed(image)
            current.encoder_s.append(self.now_s() - begin_s)

    def _decode(self, current: SpeedPass) -> None:
        """One box on one frame whose embedding is there, half of the calls."""
        embedding = self.segmenter.embed(self.clip.frame(0))
        prompts = PromptBatch((ObjectPrompts(box_xyxy_px=self.boxes[0]),))
        for _ in range(DECODER_CALLS // 2):
            begin_s = self.now_s()
            self.segmenter.segment(embedding, prompts)
            current.decoder_s.append(self.now_s() - begin_s)

    def _one_object(self, current: SpeedPass) -> None:
        """Round 1 from a box on frame 0, then rounds that prompt one frame more each."""
        run = _WatchedSession(self)
        prompts: list[Prompt] = [BoxPrompt(1, 0, self.boxes[0])]
        current.one_object = run.round(prompts)
        run.note_use(current, "one_object")
        for frame_index in self.later_frames:
            prompts = [*prompts, BoxPrompt(1, frame_index, self.boxes[0])]
            current.later_rounds.append(run.round(prompts))
        run.note_embeddings(current, 1)

    def _many_objects(self, current: SpeedPass) -> None:
        """Round 1 from a box for each object on frame 0, with nothing kept from before."""
        run = _WatchedSession(self)
        current.many_objects = run.round([BoxPrompt(i, 0, box) for i, box in enumerate(self.boxes, start=1)])
        run.note_use(current, "many_objects")
        run.note_embeddings(current, self.n_objects)


class _WatchedSession:
    """A new session with caches of its own, watched from outside."""

    def __init__(self, bench: SpeedBench) -> None:
        gc.collect()
        self._bench = bench
        self._watch = EncoderWatch()
        self._embeddings: EmbeddingCache[Any] = EmbeddingCache(EMBEDDING_RAM_MIB)
        self._stopwatch = Stopwatch()
        method: Any = bench.method
        segmenter = WatchedSegmenter(bench.segmenter, self._watch)
        fresh = dataclasses.replace(method, segmenter=segmenter, embeddings=self._embeddings)
        self._session = Session(TimedFrames(bench.clip, self._stopwatch), timed_method(fresh, self._stopwatch))

    def round(self, prompts: list[Prompt]) -> RoundTimes:
        """Run one and time it."""
        begin_s = self._bench.now_s()
        first_s: float | None = None
        frames: set[int] = set()
        with self._stopwatch.part("other"):
            for result in self._session.run_round(prompts, object_ids={prompt.object_id for prompt in prompts}):
                first_s = first_s or self._bench.now_s()
                frames.add(result.frame_index)
        end_s = self._bench.now_s()
        own = [each for i in self._session.object_ids() for each in self._session.raw_results(i)]
        return RoundTimes(
            first_mask_s=(first_s or end_s) - begin_s,
            wall_s=end_s - begin_s,
            encoder_busy_s=self._watch.busy_s(begin_s, end_s),
            n_frames=len(frames),
            n_propagated=len(frames - {prompt.frame_index for prompt in prompts}),
            n_masks=len(own),
            n_empty=sum(not each.mask.area_px for each in own),
        )

    def note_use(self, current: SpeedPass, name: str) -> None:
        """Where the seconds went, what the session holds in memory and on disk, and the most the process ever held."""
        current.by_part_s[name] = self._stopwatch.seconds
        current.memory_mib[f"{name}_embeddings"] = self._embeddings.held_bytes / 2**20
        current.memory_mib[f"{name}_session"] = self._session.held_bytes / 2**20
        current.memory_mib[f"{name}_peak_rss"] = peak_rss_mib()
        if self._bench.stored_bytes is not None:
            current.disk_mib[f"{name}_stored"] = self._bench.stored_bytes(self._session) / 2**20

    def note_embeddings(self, current: SpeedPass, n_objects: int) -> None:
        """How often frames were embedded since the session began."""
        current.embeddings[n_objects] = self._watch.n_calls
        current.embeddings_per_frame[n_objects] = self._watch.most_per_frame


NAIVE = "loop over objects, no cache"
NAIVE_FRAMES = 2
VIDEO_MODEL_FRAMES = 4
VIDEO_MODELS = ("sam2_1_hiera_tiny", "edgetam")
VIDEO_MODEL_RAM_MIB = 1024


@dataclass(frozen=True)
class Compared:
    """One row of the comparison: seconds per frame of the clip for so many objects, on ``frames_timed`` of its frames.

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


def weights_used(name: str, store: ModelStore) -> str:
    """Which weights a part has here where random ones stand in for missing ones."""
    if name not in load_registry():
        return "none needed"
    return "published" if store.has(name) else "random"


def naive_loop(bench: SpeedBench, n_objects: int, weights: str) -> Compared:
    """Object by object and frame by frame: read, embed, decode from the same box, write the mask; nothing is kept."""
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
    return Compared(NAIVE, n_objects, n_frames, seconds / n_frames, weights)


def video_model(bench: SpeedBench, name: str, store: ModelStore) -> Compared:
    """A video model of transformers in this project's method sam2: one object from the same box.

    Raises:
        ValueError: its packages are not installed, or the device cannot be used.
    """
    method = build_method(
        MethodChoice("sam2", name),
        store=store,
        device=bench.device,
        embeddings=EmbeddingCache(VIDEO_MODEL_RAM_MIB),
        random_weights=True,
    )
    n_frames = min(VIDEO_MODEL_FRAMES, len(bench.clip))

    def one_round(frames_shown: int) -> float:
        session = Session(bench.clip.first(frames_shown), method)
        begin_s = bench.now_s()
        list(session.run_round([BoxPrompt(1, 0, bench.boxes[0])], object_ids=[1]))
        return bench.now_s() - begin_s

    one_round(1)
    return Compared(f"sam2, {name}", 1, n_frames, one_round(n_frames) / n_frames, weights_used(name, store))


def comparisons(bench: SpeedBench, store: ModelStore, weights: str) -> list[tuple[Compared, Callable[[], Compared]]]:
    """Everything to compare with: the row that stands where it cannot be measured, and what measures it.

    Args:
        bench: whose clip, segmenter and boxes are taken.
        store: the model zoo on this machine.
        weights: of the segmenter, as `weights_used` names them.
    """
    loops = [
        (Compared(NAIVE, n_objects), partial(naive_loop, bench, n_objects, weights))
        for n_objects in dict.fromkeys((1, bench.n_objects))
    ]
    return [
        *loops,
        *((Compared(f"sam2, {name}", 1), partial(video_model, bench, name, store)) for name in VIDEO_MODELS),
    ]
