"""The segmenter that needs no download: a network of 7 MB whose weights come with the package."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
from cachetools import LRUCache

from model_zoo.lite.network import WEIGHTS_FILE, Features, LiteNetwork, load_lite
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
from pipeline.segmenters.lite import prompts as solvers
from pipeline.segmenters.lite.crops import Crop
from pipeline.segmenters.lite.embedding import LiteEmbedding, embed
from pipeline.segmenters.lite.memory import ENTRY_CELLS, Appearance, CropCells, remembered, said
from pipeline.segmenters.lite.prompts import Answer, Question, Reply, Steps, WorkPrompts, nothing
from pipeline.segmenters.serialization import SerializableEmbeddings
from pipeline.types import BoolMask, FrameRGB

REFERENCE_WIDENINGS = (1.6, 3.2)
"""How much more than the object the remembered crops of prompted frames show."""
KEPT_FEATURES = 16
"""Crops whose features are kept, 2 MB each: the passes over a frame ask for the same crops."""
NO_QUERY = MemoryQuery(torch.empty(0, 0))
CLICKED_LOGIT = 20.0
"""Logit of the pixels where a person clicked, and of no others."""
CLICK_RADIUS_PX = 1
"""Pixels around a person's click that are sure to be what the person says."""
UNASKED_SCORE = 0.5
"""Score of a mask that is only where the object is expected."""
LEAST_AREA_SHARE = 0.03
"""A mask smaller than this share of the object's usual area means that the object is gone."""
FOUND_EVIDENCE, FOUND_AREA_SHARE = 0.5, 0.15
"""Where a lost object is searched: least evidence of a cell, and least area of the place, as a share of the usual."""


class LiteSegmenter(SerializableEmbeddings):
    """See `pipeline.segmenters.base.Segmenter`. Its own resolution is that of the work picture.

    A frame between prompted ones needs two passes. The first one only says where the object is expected, which costs
    nothing, and the second one runs the network there with what the memory says. A further pass over its own result
    changes nothing.
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
        return self._covering(embedding, embedding.stride16.float())

    def key_features(self, embedding: LiteEmbedding) -> torch.Tensor:
        """The keys of all cells, (432, rows, columns) float32."""
        return embedding.keys(self._mean)

    def learn(self, references: Sequence[ReferenceFrame], previous: Appearance | None = None) -> Appearance:
        """Remember cells of the prompted frames: of a crop around the object, and of one that shows more around it."""
        frames = []
        for each in references:
            mask = _to_work_mask(each.mask, each.embedding)
            crops = []
            if mask.any():
                picture = each.embedding.work_rgb.numpy()
                crops = [Crop.around(picture, solvers.box_of(mask), w, solvers.CROP_PX) for w in REFERENCE_WIDENINGS]
            features = self._model.features([crop.picture_rgb for crop in crops])
            cells = [CropCells(crop, maps) for crop, maps in zip(crops, features, strict=True)]
            frames.append((each.embedding, mask, cells))
        return Appearance.learn(frames, self._mean, None if previous is None else previous.projection)

    def adapt(self, appearance: Appearance, embedding: LiteEmbedding, low_res_logits: FloatMap) -> Appearance:
        """Remember cells of one more frame; of most frames none."""
        mask = low_res_logits > 0
        if not appearance.wants_frame or not mask.any():
            return appearance.with_frame(None)
        crop = solvers.carried_crop(embedding.work_rgb.numpy(), low_res_logits)
        (reply,) = self._replies([Question(crop, wants_mask=False)])
        cells = CropCells(crop, reply.features)
        keys = appearance.projection(cells.keys(self._mean))
        return appearance.with_frame(remembered(cells, keys, mask, ENTRY_CELLS, predicted=True))

    def segment(
        self,
        embedding: LiteEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,
        appearance: Sequence[Appearance | None] | None = None,
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,  # noqa: ARG002 - it has one mask per object
    ) -> Segmentation:
        """Segment one frame, see `pipeline.segmenters.base.Segmenter.segment`. All crops run in common batches."""
        nothing_given = [None] * len(prompts.objects)
        rows = zip(
            prompts.objects,
            mask_input or nothing_given,
            mask_prior or nothing_given,
            appearance or nothing_given,
            readout or nothing_given,
            strict=True,
        )
        asked: list[Steps] = []
        for row, (given, previous, prior, learnt, read) in enumerate(rows):
            others = _near(row, mask_input, appearance)
            steps = self._steps(embedding, given, previous, prior, learnt, read, others)
            if not given.tracked:
                steps = _with_clicks(steps, _work_prompts(given, embedding))
            # Later passes need no query.
            asked.append(steps if previous is not None else self._with_query(steps, embedding, learnt))
        answers = self._run(asked)
        logits = np.stack([answer.logits for answer in answers]).astype(np.float32)
        scores = np.array([answer.iou for answer in answers], np.float32)
        return Segmentation(logits[:, None], scores[:, None], tuple(answer.query or NO_QUERY for answer in answers))

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
            reduced[_to_work_mask(logits > 0, embedding)] = 1.0
        return reduced

    def to_full_size(self, embedding: LiteEmbedding, low_res_logits: FloatMap) -> FloatMap:
        """Logits (H, W) of the frame's size."""
        height, width = embedding.frame_size_hw_px
        if low_res_logits.shape == (height, width):
            return low_res_logits
        return np.asarray(cv2.resize(low_res_logits, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _steps(
        self,
        embedding: LiteEmbedding,
        given: ObjectPrompts,
        previous: FloatMap | None,
        prior: FloatMap | None,
        appearance: Appearance | None,
        read: MemoryReadout | None,
        others: Sequence[Appearance],
    ) -> Steps:
        """What the network is to be asked for one object; ``others`` are the objects near it."""
        picture = embedding.work_rgb.numpy()
        prompts = _work_prompts(given, embedding)
        if given.tracked:
            if previous is None:
                return _unchanged(self._expected(embedding, prior, appearance))
            return self._between(embedding, previous, appearance, read, others)
        if previous is not None:
            if not (previous > 0).any() or (read is None and appearance is None):
                return _unchanged(previous)
            return self._with_memory(embedding, previous, appearance, read, others, prompts)
        if prior is not None and (prior > 0).any():
            if prompts.box is not None:
                return solvers.from_box(picture, prompts, prior)
            return solvers.corrected(picture, prompts, prior)
        if prompts.box is not None:
            return solvers.from_box(picture, prompts, None)
        if len(prompts.positive_xy):
            return solvers.from_clicks(picture, prompts)
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

    def _between(
        self,
        embedding: LiteEmbedding,
        previous: FloatMap,
        appearance: Appearance | None,
        read: MemoryReadout | None,
        others: Sequence[Appearance],
    ) -> Steps:
        """The mask of a frame between prompted ones, expected at ``previous``."""
        size = embedding.work_size_hw_px
        if not (previous > 0).any():
            return Answer(nothing(size), UNASKED_SCORE)
        answer = yield from self._with_memory(embedding, previous, appearance, read, others, None)
        least_px = LEAST_AREA_SHARE * (appearance.usual_area_px if appearance is not None else 0.0)
        if int((answer.logits > 0).sum()) < least_px:
            return replace(answer, logits=nothing(size))
        return answer

    def _with_memory(
        self,
        embedding: LiteEmbedding,
        previous: FloatMap,
        appearance: Appearance | None,
        read: MemoryReadout | None,
        others: Sequence[Appearance],
        prompts: WorkPrompts | None,
    ) -> Steps:
        """The mask of an object expected at ``previous``, with what the memory, or else the appearance, says."""
        evidence = None
        if read is not None and read.query.cells is not None:
            cells, evidence = read.query.cells, said(read)
        else:
            crop = solvers.carried_crop(embedding.work_rgb.numpy(), previous)
            (reply,) = yield [Question(crop, wants_mask=False)]
            cells = CropCells(crop, reply.features)
            if appearance is not None:
                evidence = appearance.read(appearance.projection(cells.keys(self._mean)))
        if evidence is not None and others:
            keys = cells.keys(self._mean)
            claims = [other.read(other.projection(keys)) for other in others]
            # A cell that looks more like another object is that one's.
            evidence = evidence / np.maximum(1.0, evidence + np.sum(claims, axis=0))
        return (yield from solvers.carried(cells, previous, evidence, prompts))

    def _with_query(self, steps: Steps, embedding: LiteEmbedding, appearance: Appearance | None) -> Steps:
        """Steps whose answer has the query of the crop around the mask; unknown objects and empty masks have none."""
        answer = yield from steps
        if appearance is None or not (answer.logits > 0).any():
            return answer
        crop = solvers.carried_crop(embedding.work_rgb.numpy(), answer.logits)
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
        with self._lock:
            known = [each.features or self._features.get(each.crop.key) for each in questions]
        unknown = [i for i, each in enumerate(known) if each is None]
        new = dict(zip(unknown, self._model.features([crops[i].picture_rgb for i in unknown]), strict=True))
        with self._lock:
            self._features.update({crops[i].key: each for i, each in new.items()})
        found = [new[i] if each is None else each for i, each in enumerate(known)]
        wanted = [i for i, each in enumerate(questions) if each.wants_mask]
        masks = self._model.masks(
            [found[i] for i in wanted], [crops[i].picture_rgb for i in wanted], [crops[i].planes for i in wanted]
        )
        answers = dict(zip(wanted, masks, strict=True))
        none = np.empty((0, 0), np.float32), 0.0
        return [Reply(found[i], *answers.get(i, none)) for i in range(len(questions))]

    def _covering(self, embedding: LiteEmbedding, features: torch.Tensor) -> torch.Tensor:
        """The part of a stride-16 map that shows the frame."""
        rows, columns = (-(-size // 16) for size in embedding.trunk_size_hw_px)
        return features[:, :rows, :columns]


def _near(
    row: int, masks: Sequence[FloatMap | None] | None, appearance: Sequence[Appearance | None] | None
) -> list[Appearance]:
    """The appearances of the other objects whose box lies in the crop around this object's mask."""
    own = None if masks is None else masks[row]
    if masks is None or appearance is None or own is None or not (own > 0).any():
        return []
    x0, y0, x1, y1 = solvers.box_of(own > 0)
    pad = (solvers.CARRIED_WIDENING - 1) / 2 * max(x1 - x0, y1 - y0)
    found = []
    for other, (mask, learnt) in enumerate(zip(masks, appearance, strict=True)):
        if other == row or learnt is None or mask is None or not (mask > 0).any():
            continue
        a0, b0, a1, b1 = solvers.box_of(mask > 0)
        if a0 < x1 + pad and a1 > x0 - pad and b0 < y1 + pad and b1 > y0 - pad:
            found.append(learnt)
    return found


def _unchanged(logits: FloatMap) -> Steps:
    yield from ()
    return Answer(logits, UNASKED_SCORE)


def _to_work_mask(mask: BoolMask, embedding: LiteEmbedding) -> BoolMask:
    """A mask (H, W) of the frame on the work picture; an object that covers half of no pixel keeps the best covered."""
    h, w = embedding.work_size_hw_px
    if mask.shape == (h, w):
        return mask
    share = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= max(1e-6, min(0.5, float(share.max()))), np.bool_)


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


def build(context: PartContext, weights: Path = WEIGHTS_FILE) -> LiteSegmenter:
    """The segmenter with the weights of the package."""
    return LiteSegmenter(load_lite(context.device, weights))
