"""A `Sam` that goes by colour: `SamSegmenter` takes it unchanged, with memory, hook, dense prompts and proposals.

Channels of an embedding: the colours of a cell's 4 x 4 low-resolution pixels, then (in dense prompts) the mask on them.
So the mask decoder sees only what the transformer returned, tokens and image features, as segment-anything's does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from pipeline.segmenters.sam import SamSegmenter

SIDE_PX = 256
GRID = 16
CELL = 4
"""Low-resolution pixels per cell, along each axis, as in segment-anything."""
LOW_RES = GRID * CELL
COLOURS = slice(0, 3 * CELL**2)
MASK = slice(COLOURS.stop, COLOURS.stop + CELL**2)
CHANNELS = MASK.stop
GAIN = 8.0
"""Makes the keys of a memory about as long as those of trained weights."""
PADDING = -2.0
NEGATIVE, POSITIVE, BOX_MIN, BOX_MAX = range(4)

LIKE = 0.3
"""Colours nearer than this, in [0, sqrt(3)], are alike."""
REACH = 6.0
"""Low-resolution pixels around a click that overrule the dense prompt."""
DENSE_WEIGHT = 1.5
LOGIT = 6.0

Map = NDArray[np.float32]


class ImageEncoder(nn.Module):
    img_size = SIDE_PX

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side) to (B, C, grid, grid)."""
        low_res = F.avg_pool2d(image.float(), SIDE_PX // LOW_RES)
        cells = F.pixel_unshuffle(low_res, CELL) * GAIN
        return torch.cat([cells, cells.new_zeros(len(cells), CELL**2, GRID, GRID)], dim=1)


class PromptEncoder(nn.Module):
    image_embedding_size = (GRID, GRID)
    mask_input_size = (LOW_RES, LOW_RES)
    embed_dim = CHANNELS

    def get_dense_pe(self) -> torch.Tensor:
        return torch.zeros(1, CHANNELS, GRID, GRID)

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, T, C), and the dense prompt (B, C, grid, grid): all zero without a mask."""
        rows = next(
            (len(each) for each in (None if points is None else points[0], boxes, masks) if each is not None), 1
        )
        tokens = [torch.zeros(rows, 0, CHANNELS)]
        if points is not None:
            tokens.append(_tokens(points[0], points[1]))
        if boxes is not None:
            corners = boxes.reshape(rows, 2, 2)
            tokens.append(_tokens(corners, torch.tensor([float(BOX_MIN), float(BOX_MAX)]).expand(rows, 2)))
        dense = torch.zeros(rows, CHANNELS, GRID, GRID)
        if masks is not None:
            dense[:, MASK] = GAIN * F.pixel_unshuffle(torch.tanh(masks.float() / 3), CELL)
        return torch.cat(tokens, dim=1), dense


def _tokens(xy: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    tokens = torch.zeros(*xy.shape[:2], CHANNELS)
    tokens[..., :2] = xy * LOW_RES / SIDE_PX
    tokens[..., 2] = kinds
    return tokens


class Transformer(nn.Module):
    def forward(
        self, image: torch.Tensor, _position: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens (B, T, C), and the image features (B, cells, C): embedding and dense prompt added."""
        return tokens, image.flatten(2).transpose(1, 2)


class MaskDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer()

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor,
        dense_prompt_embeddings: torch.Tensor,
        multimask_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, K, h, w) and predicted IoU (B, K); K is 3 with ``multimask_output``, else 1."""
        tokens, features = self.transformer(
            image_embeddings + dense_prompt_embeddings, image_pe, sparse_prompt_embeddings
        )
        whole = features.transpose(1, 2).reshape(-1, CHANNELS, GRID, GRID) / GAIN
        colours = F.pixel_shuffle(whole[:, COLOURS], CELL).permute(0, 2, 3, 1).numpy()
        masks = F.pixel_shuffle(whole[:, MASK], CELL)[:, 0].numpy()
        answers = [
            decode(*each, multimask=multimask_output) for each in zip(colours, masks, tokens.numpy(), strict=True)
        ]
        logits, scores = (np.stack(each).astype(np.float32) for each in zip(*answers, strict=True))
        return torch.from_numpy(logits), torch.from_numpy(scores)


class OracleSam(nn.Module):
    """`segment_anything.modeling.Sam` as far as `SamSegmenter` uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = ImageEncoder(), PromptEncoder(), MaskDecoder()

    def preprocess(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        return F.pad(image.float() / 255 - 0.5, (0, SIDE_PX - width, 0, SIDE_PX - height), value=PADDING)


def oracle_segmenter() -> SamSegmenter:
    """The project's segmenter on segment-anything, with this model in it."""
    return SamSegmenter(OracleSam(), name="oracle")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Told:
    """One row's prompts at low resolution: points (N, 2) as columns and rows, and where the box is."""

    positive: NDArray[np.intp]
    negative: NDArray[np.intp]
    box: tuple[int, int, int, int] | None

    @classmethod
    def by(cls, tokens: Map) -> Told:
        def of(kind: int) -> Map:
            return tokens[tokens[:, 2] == kind, :2]

        clicks = [np.clip(of(kind).astype(np.intp), 0, LOW_RES - 1) for kind in (POSITIVE, NEGATIVE)]
        corners = np.concatenate([np.floor(of(BOX_MIN)), np.ceil(of(BOX_MAX))], axis=1).clip(0, LOW_RES).astype(int)
        return cls(*clicks, tuple(corners[0].tolist()) if len(corners) else None)


def decode(colours: Map, dense: Map, tokens: Map, *, multimask: bool) -> tuple[Map, Map]:
    """The masks of one row: what is coloured like the positives, in the box, and follows the dense prompt.

    Args:
        colours: (h, w, 3) in [-0.5, 0.5], `PADDING` outside the image.
        dense: (h, w) in [-1, 1], all zero without a dense prompt.
        tokens: (T, C), see `_tokens`.
        multimask: give three proposals for what was told: the part, the whole and more.

    Returns:
        Logits (K, h, w) and scores (K,).
    """
    told, on_image = Told.by(tokens), colours[..., 0] > PADDING / 2
    follows = bool(np.abs(dense).max() > 0.05)
    followed = dense
    if len(told.positive) or told.box is not None:
        # Blurred, so that colours decide where the border is.
        followed = cv2.GaussianBlur(dense, (0, 0), 2.0)
    values = _evidence(colours, on_image, told, follows) + DENSE_WEIGHT * followed
    if told.box is not None:
        inside = np.zeros_like(on_image)
        inside[told.box[1] : told.box[3], told.box[0] : told.box[2]] = True
        values = np.where(inside, values, np.minimum(values, -1.0))
    values = np.where(on_image, values, -2.0)
    if len(told.positive) and told.box is None:
        values = np.where(_connected(values > 0, told.positive, dense > 0), values, np.minimum(values, -0.5))
    alone = not len(told.positive) and told.box is None and not follows
    mask, scores = values > 0, [0.93]
    if not alone:
        scores = [float(0.5 + 0.45 * np.minimum(np.abs(values[mask]), 1.0).mean()) if mask.any() else 0.5]
    maps = [values]
    if multimask:
        maps, scores = _proposals(colours, on_image, values, told)
    return np.clip(np.stack(maps), -2, 2) * LOGIT, np.array(scores)


def _evidence(colours: Map, on_image: NDArray[np.bool_], told: Told, follows: bool) -> Map:
    """What points and box say of each pixel, (h, w): 1 for the object, -1 against it, up to 3 times as much at a click.

    Negatives alone say only what the object is not: then it is all else, unless a dense prompt tells more.
    """
    against = _unlikeness(colours, told.negative)
    at_negative = 1 + 2 * _near(told.negative)
    if not len(told.positive):
        if told.box is not None:
            # A negative outside the box says nothing about what is nearer to the box's middle, however alike.
            evidence = _unlike_around(colours, on_image, told.box)
            against = np.where(_nearer(told.negative, told.box), against, 9.0)
        else:
            evidence = np.full(on_image.shape, 0.0 if follows else 1.0)
        return np.where(against < LIKE, np.minimum(evidence, -at_negative), evidence)
    told = replace(told, positive=_trusted(colours, on_image, told))
    unlike = _unlikeness(colours, told.positive)
    # Another colour than the positives' says less than a negative does: the object may have several.
    evidence = np.clip((LIKE - unlike) * 2 / LIKE, -0.6, 1)
    if len(told.negative):
        # Of two clicks on the same colour the nearer one counts.
        difference = _unlikeness(colours, told.negative, 1 / 32) - _unlikeness(colours, told.positive, 1 / 32)
        evidence = np.minimum(evidence, np.clip(3 * difference, -1, 1))
    return np.where(evidence > 0, evidence * (1 + 2 * _near(told.positive)), evidence * at_negative)


def _trusted(colours: Map, on_image: NDArray[np.bool_], told: Told) -> NDArray[np.intp]:
    """The positives without those beside the object: coloured as what is around the box. All, if none were left."""
    if told.box is None:
        return told.positive
    unlike = _unlike_around(colours, on_image, told.box)
    kept = np.array([unlike[row, column] > 0 for column, row in told.positive], np.bool_)
    return told.positive[kept] if kept.any() else told.positive


def _unlikeness(colours: Map, points: NDArray[np.intp], by_distance: float = 0.0) -> Map:
    """The difference (h, w) between each colour and the most similar one at the points; large without points."""
    least = np.full(colours.shape[:2], 9.0)
    ys, xs = np.mgrid[: colours.shape[0], : colours.shape[1]]
    for column, row in points:
        unlike = np.linalg.norm(colours - colours[row, column], axis=2)
        least = np.minimum(least, unlike + LIKE * by_distance * np.hypot(xs - column, ys - row))
    return least


def _nearer(points: NDArray[np.intp], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Pixels (h, w) that are nearer to one of the points than to the middle of the box."""
    ys, xs = np.mgrid[:LOW_RES, :LOW_RES]
    middle = np.hypot(xs - (box[0] + box[2]) / 2, ys - (box[1] + box[3]) / 2)
    distances = [np.hypot(xs - column, ys - row) for column, row in points]
    return np.asarray(np.min([np.full_like(middle, np.inf), *distances], axis=0) < middle)


def _near(points: NDArray[np.intp]) -> Map:
    """In [0, 1], 1 at the points."""
    near = np.zeros((LOW_RES, LOW_RES))
    ys, xs = np.mgrid[:LOW_RES, :LOW_RES]
    for column, row in points:
        near = np.maximum(near, np.exp(-((xs - column) ** 2 + (ys - row) ** 2) / (2 * REACH**2)))
    return near


def _unlike_around(colours: Map, on_image: NDArray[np.bool_], box: tuple[int, int, int, int]) -> Map:
    """What differs from all colours just outside the box; everything, if nothing of the image is outside."""
    ring = np.zeros(on_image.shape, np.uint8)
    cv2.rectangle(ring, (box[0] - 2, box[1] - 2), (box[2] + 1, box[3] + 1), 1, 2)
    outside = np.argwhere((ring > 0) & on_image)[:, ::-1]
    if not len(outside):
        return np.ones(on_image.shape)
    return np.clip((_unlikeness(colours, outside[:: max(1, len(outside) // 32)]) - LIKE) * 3 / LIKE, -1, 1)


def _connected(mask: NDArray[np.bool_], points: NDArray[np.intp], dense: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The components of a mask that have a point or mostly follow the dense prompt."""
    n, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    kept = {int(labels[row, column]) for column, row in points} - {0}
    kept |= {label for label in range(1, n) if dense[labels == label].mean() > 0.5}
    return np.isin(labels, list(kept))


def _proposals(colours: Map, on_image: NDArray[np.bool_], part: Map, told: Told) -> tuple[list[Map], list[float]]:
    """The part of one colour, the whole that differs from the frame's border, and that with what is around it.

    The part scores above the whole where the click lies deep in it, below it near its border.
    """
    rows, columns = np.nonzero(on_image)
    frame = (int(columns.min()) + 2, int(rows.min()) + 2, int(columns.max()) - 1, int(rows.max()) - 1)
    unlike = _unlike_around(colours, on_image, frame)
    nothing = np.zeros_like(on_image)
    whole = np.where(_connected((unlike > 0) & on_image, told.positive, nothing), np.maximum(unlike, 0.3), -1.0)
    whole = np.maximum(whole, part)
    more = np.where(cv2.dilate((whole > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, 0.5, -1.0)
    if len(told.negative):
        nearer = _unlikeness(colours, told.negative, 1 / 32) < _unlikeness(colours, told.positive, 1 / 32)
        against = nearer & (_unlikeness(colours, told.negative) < LIKE)
        whole, more = np.where(against, -1.0, whole), np.where(against, -1.0, more)
    deep = cv2.distanceTransform((part > 0).astype(np.uint8), cv2.DIST_L2, 3)
    depth = max((float(deep[row, column]) for column, row in told.positive), default=0.0)
    return [part, whole, more], [0.75 + 0.2 * min(1.0, depth / 4), 0.85, 0.6]
