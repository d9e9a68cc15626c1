"""Segmenter `lite`: a network of 7 MB, whose weights come with the package, on crops around the object."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from numpy.typing import NDArray

from model_zoo.lite.network import Features, LiteNetwork, load_lite
from pipeline.masks import reduced_mask
from pipeline.parts.context import PartContext
from pipeline.segmenters.base import (
    FloatMap,
    MemoryEntry,
    MemoryQuery,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    ReferenceFrame,
    Segmentation,
)
from pipeline.segmenters.lite.crops import Crop
from pipeline.segmenters.lite.embedding import LiteEmbedding, embed
from pipeline.segmenters.lite.likeness import put_likeness
from pipeline.segmenters.lite.memory import ENTRY_CELLS, Appearance, CropCells, remembered
from pipeline.segmenters.lite.prompts import (
    CARRIED_WIDENING,
    CROP_PX,
    Answer,
    Question,
    Reply,
    Steps,
    WorkPrompts,
    box_of,
    carried,
    carried_crop,
    corrected,
    from_box,
    from_clicks,
    nothing,
)
from pipeline.segmenters.serialization import SerializableEmbeddings
from pipeline.types import FrameRGB

REFERENCE_WIDENINGS = (1.6, 3.2)
"""How much more than the object the remembered crops of prompted frames show."""
KEPT_FEATURES = 16
"""Crops whose features are kept, 2 MB each: the passes over a frame ask for the same crops."""
CLICKED_LOGIT = 20.0
"""Logit of the pixels where a person clicked, and of no others."""
CLICK_RADIUS_PX = 1
"""Pixels around a person's click that are sure to be what the person says."""
UNASKED_SCORE = 0.5
"""Score of a mask that is only where the object is expected."""
CONTESTED_LOGIT = -0.5
"""Highest logit of a pixel that another object is surer of."""
LEAST_AREA_SHARE = 0.03
"""A mask smaller than this share of the object's usual area means that the object is gone."""
FOUND_EVIDENCE, FOUND_AREA_SHARE = 0.5, 0.15
"""Where a lost object is searched: least evidence of a cell, and least area of the place, as a share of the usual."""


@dataclass(frozen=True)
class Known:
    """What is known of one object on a frame, besides its masks.

    Attributes:
        tracked: whether trackers moved the prompts here.
        prompts: in pixels of the work picture.
        appearance: of the object, or None.
        others: appearances of the objects near it.
    """

    tracked: bool
    prompts: WorkPrompts
    appearance: Appearance | None
    others: tuple[Appearance, ...]


class LiteSegmenter(SerializableEmbeddings):
    """See `pipeline.segmenters.base.Segmenter`. Its own resolution is that of the work picture.

    A frame between prompted ones needs two passes. The first one only says where the object is expected, and runs the
    trunk there. The second one runs the decoder with what the object's appearance says of the cells there. A further
    pass over its own result changes nothing.

    The appearance knows all prompted frames, and what lies around the object there. So readouts of a memory, which
    knows a sample of the same cells, are not looked at.
    """

    uses_mask_prior: ClassVar[bool] = True
    refines_itself: ClassVar[bool] = False
    _embedding_type = LiteEmbedding

    def __init__(self, network: LiteNetwork) -> None:
        """Take a network from `model_zoo.lite.network.load_lite`."""
        self._model = network
        self._mean = network.key_mean.float().cpu()
        self._features: LRUCache[bytes, Features] = LRUCache(KEPT_FEATURES)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Key of the embedding cache."""
        return "lite"

    def embed(self, frame_rgb: FrameRGB) -> LiteEmbedding:
        """Run the trunk on the whole frame; crops are made when a mask is asked for."""
        return embed(frame_rgb, self._model)

    def features(self, embedding: LiteEmbedding) -> torch.Tensor:
        """The trunk's features at stride 16, (112, a, b) float32."""
        rows, columns = (-(-size // 16) for size in embedding.trunk_size_hw_px)
        return embedding.stride16[:, :rows, :columns].float()

    def key_features(self, embedding: LiteEmbedding) -> torch.Tensor:
        """The keys of all cells, (432, rows, columns) float32."""
        return embedding.keys(self._mean)

    def learn(self, references: Sequence[ReferenceFrame], previous: Appearance | None = None) -> Appearance:
        """Remember cells of the prompted frames: of a crop around the object, and of one that shows more around it."""
        frames = []
        for each in references:
            mask = reduced_mask(each.mask, each.embedding.work_size_hw_px)
            crops = []
            if mask.any():
                picture = each.embedding.work_rgb.numpy()
                crops = [Crop.around(picture, box_of(mask), w, CROP_PX) for w in REFERENCE_WIDENINGS]
            features = self._model.features([crop.picture_rgb for crop in crops])
            cells = [CropCells(crop, maps) for crop, maps in zip(crops, features, strict=True)]
            frames.append((each.embedding, mask, cells))
        return Appearance.learn(frames, self._mean, None if previous is None else previous.projection)

    def adapt(self, appearance: Appearance, embedding: LiteEmbedding, low_res_logits: FloatMap) -> Appearance:  # noqa: ARG002
        """The same appearance: nothing is learnt from masks that no person has checked."""
        return appearance

    def segment(
        self,
        embedding: LiteEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Appearance | None] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,  # noqa: ARG002 - see the class
        multimask: bool = False,  # noqa: ARG002 - it has one mask per object
    ) -> Segmentation:
        """Segment one frame, see `pipeline.segmenters.base.Segmenter.segment`. All crops run in common batches."""
        nothing_given = [None] * len(prompts.objects)
        inputs, learnt = mask_input or nothing_given, appearance or nothing_given
        near = _near(inputs, learnt)
        asked: list[Steps] = []
        for row, given in enumerate(prompts.objects):
            others = tuple(each for other in near[row] if (each := learnt[other]) is not None)
            known = Known(given.tracked, _work_prompts(given, embedding), learnt[row], others)
            steps = self._steps(embedding, known, inputs[row], (mask_prior or nothing_given)[row])
            if not given.tracked:
                steps = _with_clicks(steps, known.prompts)
            # Later passes need no query.
            asked.append(steps if inputs[row] is not None else self._with_query(steps, embedding, learnt[row]))
        answers = self._run(asked)
        queries = tuple(answer.query or MemoryQuery(torch.empty(0, 0)) for answer in answers)
        logits = np.stack([answer.logits for answer in answers]).astype(np.float32)
        may_lose = [given.tracked and mask is not None for given, mask in zip(prompts.objects, inputs, strict=True)]
        logits = _without_overlaps(logits, may_lose)
        scores = np.array([answer.iou for answer in answers], np.float32)
        return Segmentation(logits[:, None], scores[:, None], queries)

    def memorise(self, embedding: LiteEmbedding, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:  # noqa: ARG002
        """A sample of the queried crop's cells; no cells if the mask is empty."""
        mask = low_res_logits > 0
        if not mask.any() or query.cells is None:
            return MemoryEntry(torch.empty(query.keys.shape[0], 0), torch.empty(1, 0))
        return remembered(query.cells, query.keys, mask, ENTRY_CELLS, predicted=not query.prompted)

    def to_low_res(self, embedding: LiteEmbedding, logits: FloatMap) -> FloatMap:
        """Logits (h, w) of the work picture; a small object that would vanish keeps its best covered pixels."""
        h, w = embedding.work_size_hw_px
        if logits.shape == (h, w):
            return logits
        reduced = np.asarray(cv2.resize(logits, (w, h), interpolation=cv2.INTER_AREA), np.float32)
        if (logits > 0).any() and not (reduced > 0).any():
            reduced[reduced_mask(logits > 0, (h, w))] = 1.0
        return reduced

    def to_full_size(self, embedding: LiteEmbedding, low_res_logits: FloatMap) -> FloatMap:
        """Logits (H, W) of the frame's size."""
        height, width = embedding.frame_size_hw_px
        if low_res_logits.shape == (height, width):
            return low_res_logits
        return np.asarray(cv2.resize(low_res_logits, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _steps(
        self, embedding: LiteEmbedding, known: Known, previous: FloatMap | None, prior: FloatMap | None
    ) -> Steps:
        """What the network is to be asked for one object; masks are those of `segment`."""
        picture, prompts = embedding.work_rgb.numpy(), known.prompts
        if known.tracked:
            if previous is None:
                return _unchanged(self._expected(embedding, prior, known.appearance))
            return self._between(embedding, known, previous)
        if previous is not None:
            if not (previous > 0).any():
                return _unchanged(previous)
            if known.appearance is not None:
                return self._with_appearance(embedding, known, previous)
            # The first pass had the positive prompts alone.
            return _unchanged(previous) if prompts.positive.all() else corrected(picture, prompts, previous)
        before = prior if prior is not None and (prior > 0).any() else None
        if prompts.box is not None:
            return from_box(picture, prompts, before)
        if before is not None:
            return corrected(picture, prompts, before)
        if len(prompts.positive_xy):
            return from_clicks(picture, prompts)
        return _unchanged(nothing(embedding.work_size_hw_px))

    def _expected(self, embedding: LiteEmbedding, prior: FloatMap | None, appearance: Appearance | None) -> FloatMap:
        """Where an object is expected: at the carried mask, or where the whole frame looks most like it.

        Raises:
            ValueError: tracked prompts came without an appearance.
        """
        if appearance is None:
            raise ValueError("tracked prompts need an appearance of prompted frames; call learn first")
        if prior is not None and (prior > 0).any():
            return prior
        return self._searched(embedding, appearance)

    def _searched(self, embedding: LiteEmbedding, appearance: Appearance) -> FloatMap:
        """Logits (h, w): positive at the largest place that looks like a lost object, if it is large enough."""
        size = embedding.work_size_hw_px
        if not appearance.usual_area_px:
            return nothing(size)
        found = appearance.search(embedding, self._mean)
        _, labels, stats, _ = cv2.connectedComponentsWithStats((found > FOUND_EVIDENCE).astype(np.uint8))
        if len(stats) < 2:
            return nothing(size)
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        area_px = stats[best, cv2.CC_STAT_AREA] / found.size * size[0] * size[1]
        if area_px < FOUND_AREA_SHARE * appearance.usual_area_px:
            return nothing(size)
        place = np.where(labels == best, found - FOUND_EVIDENCE, -FOUND_EVIDENCE).astype(np.float32)
        return np.asarray(4 * cv2.resize(place, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def _between(self, embedding: LiteEmbedding, known: Known, previous: FloatMap) -> Steps:
        """The mask of a frame between prompted ones, expected at ``previous``."""
        size = embedding.work_size_hw_px
        if not (previous > 0).any():
            return Answer(nothing(size), UNASKED_SCORE)
        answer = yield from self._with_appearance(embedding, known, previous)
        least_px = LEAST_AREA_SHARE * (known.appearance.usual_area_px if known.appearance is not None else 0.0)
        if int((answer.logits > 0).sum()) < least_px:
            return replace(answer, logits=nothing(size))
        return answer

    def _with_appearance(self, embedding: LiteEmbedding, known: Known, previous: FloatMap) -> Steps:
        """The mask of an object expected at ``previous``, with what its appearance says, if it has one.

        I-PT's Eq. 6 mixes what is remembered with the frame's own value. Here that is the network's task: it gets both.
        """
        crop = carried_crop(embedding.work_rgb.numpy(), previous)
        (reply,) = yield [Question(crop, wants_mask=False)]
        cells, evidence = CropCells(crop, reply.features), None
        if known.appearance is not None:
            keys = cells.keys(self._mean)
            evidence = known.appearance.read(known.appearance.projection(keys))
            if known.others:
                # A cell that looks more like another object is that one's.
                evidence = evidence / np.maximum(1.0, evidence + _claims(keys, known.others))
        # Tracked points may have left the object.
        return (yield from carried(cells, previous, evidence, None if known.tracked else known.prompts))

    def _with_query(self, steps: Steps, embedding: LiteEmbedding, appearance: Appearance | None) -> Steps:
        """Steps whose answer has the query of the crop around the mask; unknown objects and empty masks have none."""
        answer = yield from steps
        if appearance is None or not (answer.logits > 0).any():
            return answer
        crop = carried_crop(embedding.work_rgb.numpy(), answer.logits)
        (reply,) = yield [Question(crop, wants_mask=False)]
        cells = CropCells(crop, reply.features)
        return replace(answer, query=MemoryQuery(appearance.projection(cells.keys(self._mean)), cells))

    def _run(self, running: Sequence[Steps]) -> list[Answer]:
        """Run all objects' steps side by side: what they ask at the same time goes into one batch."""
        answers: dict[int, Answer] = {}
        asked = {}
        for row, steps in enumerate(running):
            try:
                asked[row] = next(steps)
            except StopIteration as stopped:
                answers[row] = stopped.value
        while asked:
            replies = iter(self._replies([question for each in asked.values() for question in each]))
            waiting, asked = {row: [next(replies) for _ in each] for row, each in asked.items()}, {}
            for row, reply in waiting.items():
                try:
                    asked[row] = running[row].send(reply)
                except StopIteration as stopped:
                    answers[row] = stopped.value
        return [answers[row] for row in range(len(running))]

    def _replies(self, questions: Sequence[Question]) -> list[Reply]:
        """Run the network: the trunk where its features are not known, and the decoder where masks are wanted."""
        crops = [each.crop for each in questions]
        keys = [each.crop.key for each in questions]
        with self._lock:
            known = [each.features or self._features.get(key) for each, key in zip(questions, keys, strict=True)]
        unknown = [i for i, each in enumerate(known) if each is None]
        new = dict(zip(unknown, self._model.features([crops[i].picture_rgb for i in unknown]), strict=True))
        with self._lock:
            self._features.update({keys[i]: each for i, each in new.items()})
        found = [new[i] if each is None else each for i, each in enumerate(known)]
        wanted = [i for i, each in enumerate(questions) if each.wants_mask]
        for i in wanted:
            put_likeness(crops[i].planes, crops[i].picture_rgb)
        masks = self._model.masks(
            [found[i] for i in wanted], [crops[i].picture_rgb for i in wanted], [crops[i].planes for i in wanted]
        )
        answers = dict(zip(wanted, masks, strict=True))
        none = np.empty((0, 0), np.float32), 0.0
        return [Reply(found[i], *answers.get(i, none)) for i in range(len(questions))]


def _without_overlaps(logits: FloatMap, may_lose: Sequence[bool]) -> FloatMap:
    """Logits (O, h, w) in which tracked objects leave pixels to the objects that are surer of them.

    Otherwise an object that passes behind another one would take it along from frame to frame. What a person prompted
    loses nothing.
    """
    owner = logits.argmax(0)
    lost = [may & (owner != row) for row, may in enumerate(may_lose)]
    return np.where(np.stack(lost), np.minimum(logits, CONTESTED_LOGIT), logits).astype(np.float32)


def _claims(keys: torch.Tensor, others: Sequence[Appearance]) -> NDArray[np.float32]:
    """How much several objects say together that cells are theirs: (N,) for the keys (432, N) of a square of cells.

    Two by two cells are asked as one, as they come from one cell of the trunk's features.
    """
    n = int(np.sqrt(keys.shape[1]))
    pooled = F.avg_pool2d(keys.reshape(1, -1, n, n), 2)[0]
    coarse = np.sum([each.read(each.projection(pooled.flatten(1))) for each in others], axis=0).astype(np.float32)
    return np.asarray(cv2.resize(coarse.reshape(pooled.shape[1:]), (n, n)), np.float32).ravel()


def _near(masks: Sequence[FloatMap | None], appearance: Sequence[Appearance | None]) -> list[list[int]]:
    """For each object the known others whose box lies in the crop around its mask, logits (h, w)."""
    boxes = [None if mask is None or not (mask > 0).any() else box_of(mask > 0) for mask in masks]
    found: list[list[int]] = [[] for _ in boxes]
    for row, own in enumerate(boxes):
        if own is None:
            continue
        x0, y0, x1, y1 = own
        pad = (CARRIED_WIDENING - 1) / 2 * max(x1 - x0, y1 - y0)
        for other, box in enumerate(boxes):
            if other == row or box is None or appearance[other] is None:
                continue
            a0, b0, a1, b1 = box
            if a0 < x1 + pad and a1 > x0 - pad and b0 < y1 + pad and b1 > y0 - pad:
                found[row].append(other)
    return found


def _unchanged(logits: FloatMap) -> Steps:
    yield from ()
    return Answer(logits, UNASKED_SCORE)


def _work_prompts(given: ObjectPrompts, embedding: LiteEmbedding) -> WorkPrompts:
    sx, sy = embedding.work_px_per_frame_px
    box = given.box_xyxy_px
    return WorkPrompts(
        given.points_xy_px * np.array([sx, sy], np.float32),
        given.positive,
        None if box is None else (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy),
    )


def _with_clicks(steps: Steps, prompts: WorkPrompts) -> Steps:
    """Steps whose answer agrees with every click of a person at its place; of clicks on one place the latest wins."""
    answer = yield from steps
    if not len(prompts.points_xy):
        return answer
    found, (height, width) = answer.logits.copy(), answer.logits.shape
    for (x, y), positive in zip(prompts.points_xy, prompts.positive, strict=True):
        column, row = int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))
        near = slice(max(0, row - CLICK_RADIUS_PX), row + CLICK_RADIUS_PX + 1)
        found[near, max(0, column - CLICK_RADIUS_PX) : column + CLICK_RADIUS_PX + 1] = (
            CLICKED_LOGIT if positive else -CLICKED_LOGIT
        )
    return replace(answer, logits=found)


def build(context: PartContext) -> LiteSegmenter:
    """The segmenter with the weights of the package."""
    return LiteSegmenter(load_lite(context.device))
