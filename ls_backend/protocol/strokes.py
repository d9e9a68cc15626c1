"""What the annotator drew with Label Studio's brush and eraser: scribbles and hand-made masks.

Measured with Label Studio 1.23 (``tests/contract``, ``tests/e2e/test_scribbles.py``):

- A stroke sends no request. It is saved with the draft some seconds later, and arrives with the next smart click.
- A new stroke makes a region with a random id. While a region is selected, brush and eraser add strokes to it.
- A draft has strokes as ``touches`` on top of the ``rle`` that the region had. An annotation has the pixels alone,
  except on frames that were not shown since the page was loaded: those are stored as they were loaded, with touches.
- A stroke on a mask of this backend turns its ``origin`` from "prediction" into "prediction-changed". An answer that
  replaces the mask drops the strokes and turns the origin back. So the origin says whether a person changed the mask
  last, even after a restart. Touches with the origin "prediction" were replaced by an answer.

A brush region that the annotator made is a set of scribbles if it is thin, else a painted mask, see
`ls_backend.protocol.brush_regions.is_thin`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ls_backend.errors import RequestError
from ls_backend.protocol.brush_regions import (
    StoredRegion,
    brush_digests,
    distance_to_path,
    draw_touches,
    stroke_path_px,
    stroke_width_px,
)
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import PCT, BrushRegion, HandMaskNote, HandMaskRuns, Json, ScribbleNote, Touch, parse
from ls_backend.protocol.prompts import LabelPrompt, to_runs
from ls_backend.protocol.regions import CERTAIN, mask_region, mask_to_brush_rle, region_id
from pipeline.skeleton import longest_paths, thinned
from pipeline.types import RunLengthMask

SAME_STROKES_IOU = 0.7
"""The pixels of a region come from the strokes known of it if their intersection over union is at least this."""
COORDINATE_DIGITS = 4


def scribbles_in(stored: StoredRegion, known: list[LabelPrompt]) -> list[LabelPrompt]:
    """The scribbles of one thin region in the order of drawing.

    Of a stroke that a later stroke of the other kind painted over, the rest that is still visible counts.

    Args:
        stored: the region.
        known: scribbles read from it earlier. If only pixels are stored by now, these tell which strokes were positive
            and which negative; without them all are positive.
    """
    touches = stored.region.value.touches
    if known and (stored.base.any() or not touches) and _are_the_same(stored, known):
        found = list(known)
    else:
        found = _traced(stored)
    for number, touch in enumerate(touches):
        later = [other for other in touches[number + 1 :] if other.type != touch.type]
        for part, run in enumerate(_visible_runs(touch, later, stored.size_hw_px)):
            name = f"{touch.id or number}.{part}"
            found.append(_scribble(stored, name, run, touch.width_pct, positive=touch.type == "add"))
    return found


def _are_the_same(stored: StoredRegion, known: list[LabelPrompt]) -> bool:
    """Whether the pixels of a region are what the known scribbles painted."""
    notes = [prompt.content for prompt in known if isinstance(prompt.content, ScribbleNote)]
    touches = [
        Touch(relativePoints=note.path, relativeStrokeWidth=note.width_pct, type="add" if note.positive else "eraser")
        for note in notes
    ]
    painted = draw_touches(np.zeros(stored.size_hw_px, np.bool_), touches)
    union_px = int(np.count_nonzero(painted | stored.base))
    return not union_px or np.count_nonzero(painted & stored.base) / union_px >= SAME_STROKES_IOU


def _traced(stored: StoredRegion) -> list[LabelPrompt]:
    """Scribbles along the middle of a thin region. All are positive: pixels do not show what was erased."""
    base, image_width_px = np.pad(stored.base, 1), stored.size_hw_px[1]
    depth_px = cv2.distanceTransform(base.astype(np.uint8), cv2.DIST_L2, 5)
    n_parts, labels = cv2.connectedComponents(base.astype(np.uint8))
    found: list[LabelPrompt] = []
    for number in range(1, n_parts):
        part = labels == number
        deepest = np.argwhere(part & (depth_px == depth_px[part].max()))[:1, ::-1].astype(np.int64)
        for line in longest_paths(thinned(part)) or [deepest]:
            depths_px = depth_px[line[:, 1], line[:, 0]].astype(np.float64)
            width_px = max(1.0, 2.0 * float(np.median(depths_px)) - 1.0)
            path_px = line[:: max(1, int(width_px / 2))].astype(np.float64) - 0.5
            width_pct = width_px / image_width_px * PCT
            found.append(_scribble(stored, f"traced{len(found)}", path_px, width_pct, positive=True))
    return found


def _visible_runs(touch: Touch, later: list[Touch], size_hw_px: tuple[int, int]) -> list[NDArray[np.float64]]:
    """The runs x, y in px of a stroke's path that no later stroke of the other kind painted over."""
    path_px = stroke_path_px(touch, size_hw_px)
    path_px = path_px[np.append(True, (np.diff(path_px, axis=0) != 0).any(axis=1))]
    if not later:
        return [path_px]
    steps_px = np.linalg.norm(np.diff(path_px, axis=0), axis=1)
    at_px = np.append(0.0, np.cumsum(steps_px))
    wanted_px = np.linspace(0.0, at_px[-1], int(at_px[-1]) + 1)
    dense_px = np.stack([np.interp(wanted_px, at_px, path_px[:, axis]) for axis in (0, 1)], axis=1)
    left = np.ones(len(dense_px), np.bool_)
    for other in later:
        radius_px = stroke_width_px(other, size_hw_px) / 2
        left &= distance_to_path(dense_px, stroke_path_px(other, size_hw_px)) > radius_px
    if left.all():
        return [path_px]
    runs = np.split(np.arange(len(dense_px)), np.flatnonzero(np.diff(left)) + 1)
    return [dense_px[run] for run in runs if left[run[0]]]


def _scribble(
    stored: StoredRegion, name: str, path_px: NDArray[np.float64], width_pct: float, *, positive: bool
) -> LabelPrompt:
    height_px, width_px = stored.size_hw_px
    path_pct = np.round(path_px / (width_px, height_px) * PCT, COORDINATE_DIGITS)
    path = path_pct.ravel().tolist()
    source = stored.region.id
    note = ScribbleNote(label=stored.label, brush_region=source, path=path, width_pct=width_pct, positive=positive)
    return LabelPrompt(f"{source}/{name}", "scribble", stored.label, stored.frame_index, positive, note)


@dataclass(frozen=True)
class HandMask:
    """One label's hand-made mask on one frame: painted by the annotator, or a mask of this backend that they changed.

    Attributes:
        label: the label.
        frame_index: the 0-based frame.
        version: changes with every stroke.
        stored: all regions that show the mask.
        kept: the mask itself, if an answer took it out of the painted region, see `emptied_region`.
    """

    label: str
    frame_index: int
    version: str
    stored: tuple[StoredRegion, ...]
    kept: HandMaskRuns | None = None

    @property
    def painted(self) -> tuple[str, ...]:
        """Ids of the annotator's own regions that show it."""
        return tuple(stored.region.id for stored in self.stored if not stored.is_mask_of_backend)

    def prompt(self, replaces: Iterable[str]) -> LabelPrompt:
        """The mask as a prompt: everything in the label's colour that the annotator sees on the frame, but scribbles.

        Args:
            replaces: ids of the earlier prompts on the frame.

        Raises:
            ValueError: the run lengths of a region are damaged.
        """
        runs = self.kept
        if runs is None:
            mask = np.logical_or.reduce([stored.mask for stored in self.stored])
            runs = to_runs(mask, version=self.version, replaces=sorted(replaces))
        note = HandMaskNote(label=self.label, mask=runs, painted=list(self.painted))
        prompt_id = mask_prompt_id(self.label, self.frame_index)
        return LabelPrompt(prompt_id, "mask", self.label, self.frame_index, True, note)


def mask_prompt_id(label: str, frame_index: int) -> str:
    """The id of the prompt that is a label's hand-made mask on a frame."""
    return f"{region_id(label, frame_index)}/by-hand"


@dataclass(frozen=True)
class Strokes:
    """The brush regions of one draft or annotation: the annotator's own, and masks of this backend by id."""

    own: tuple[StoredRegion, ...]
    of_backend: Mapping[str, StoredRegion]
    problems: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that a person drew for."""
        changed = [stored for stored in self.of_backend.values() if stored.is_changed_by_hand]
        return tuple(dict.fromkeys(stored.label for stored in (*self.own, *changed)))

    @property
    def painted(self) -> frozenset[str]:
        """Ids of the annotator's own regions that are painted masks."""
        return frozenset(stored.region.id for stored in self.own if not stored.is_thin)

    def scribbles(self, label: str, known: Iterable[LabelPrompt]) -> tuple[LabelPrompt, ...]:
        """The strokes of one label; ``known`` are scribbles read earlier, see `scribbles_in`."""
        found: list[LabelPrompt] = []
        for stored in self.own:
            if stored.label == label and stored.is_thin:
                found += scribbles_in(stored, [prompt for prompt in known if prompt.brush_region == stored.region.id])
        return tuple(found)

    def hand_masks(self, label: str) -> tuple[HandMask, ...]:
        """The hand-made masks of one label, by frame."""
        by_frame: dict[int, list[StoredRegion]] = {}
        kept: dict[int, HandMaskRuns] = {}
        for stored in self.own:
            if stored.label != label:
                continue
            if not stored.is_thin:
                by_frame.setdefault(stored.frame_index, []).append(stored)
            elif stored.region.meta.prompt.mask is not None:
                kept[stored.frame_index] = stored.region.meta.prompt.mask
        masks = {stored.frame_index: stored for stored in self.of_backend.values() if stored.label == label}
        changed = {frame_index for frame_index, stored in masks.items() if stored.is_changed_by_hand}
        return tuple(
            self._hand_mask(label, frame_index, by_frame.get(frame_index, []), masks.get(frame_index), kept)
            for frame_index in sorted({*by_frame, *changed, *kept})
        )

    def _hand_mask(
        self,
        label: str,
        frame_index: int,
        painted: list[StoredRegion],
        mask: StoredRegion | None,
        kept: Mapping[int, HandMaskRuns],
    ) -> HandMask:
        made = [*painted, *([mask] if mask is not None and mask.is_changed_by_hand else [])]
        if not made:
            return HandMask(label, frame_index, kept[frame_index].version, (), kept[frame_index])
        digests = sorted(stored.digest for stored in made)
        version = hashlib.blake2b(b"".join(digests), digest_size=8).hexdigest()
        return HandMask(label, frame_index, version, (*painted, *([mask] if mask is not None else [])))

    def shows(self, prompt: LabelPrompt, masks: Iterable[RunLengthMask]) -> bool:
        """Whether the frame of a hand-made mask has a region of this backend now that shows one of ``masks``."""
        stored = self.of_backend.get(region_id(prompt.label, prompt.frame_index))
        if stored is None:
            return False
        try:
            return RunLengthMask.encode(stored.mask) in list(masks)
        except ValueError:
            return False


def read_strokes(
    document: Collection[Json], config: LabelConfig, digests: Mapping[str, bytes] | None = None
) -> Strokes:
    """Read the brush regions of a draft or an annotation; damaged ones are named in ``problems``.

    Args:
        document: all its regions.
        config: the project's labelling config.
        digests: their `brush_digests`, if the caller has them.
    """
    digests = brush_digests(document) if digests is None else digests
    own: dict[str, StoredRegion] = {}
    of_backend: dict[str, StoredRegion] = {}
    problems: list[str] = []
    for raw in document:
        digest = digests.get(str(raw.get("id"))) if raw.get("from_name") == config.brush_control else None
        if digest is None:
            continue
        try:
            region = parse(BrushRegion, raw, f"the brush region {raw.get('id')!r}")
        except RequestError as error:
            problems.append(str(error))
            continue
        labels = region.value.brushlabels
        if len(labels) != 1 or labels[0] not in config.labels or region.image_rotation % 360:
            problems.append(
                f"the brush region {region.id!r} on frame {region.item_index} needs one label of "
                f"{list(config.labels)} on an image that is not rotated, but has {labels}; it is left alone"
            )
            continue
        stored = StoredRegion(region, labels[0], digest)
        try:
            _ = stored.mask if not stored.is_mask_of_backend or stored.is_changed_by_hand else None
        except ValueError as error:
            problems.append(f"the brush region {region.id!r} on frame {region.item_index} is damaged: {error}")
            continue
        (of_backend if stored.is_mask_of_backend else own)[region.id] = stored
    return Strokes(tuple(own.values()), of_backend, tuple(problems))


def emptied_region(painted_id: str, prompt: LabelPrompt, config: LabelConfig) -> Json:
    """A painted region of a mask prompt without its pixels; its ``meta`` keeps the mask.

    When later clicks change a painted mask, a region of this backend shows the result. The paint would hide it, and
    would count as a second mask of the label.

    Raises:
        ValueError: it is a prompt of another kind.
    """
    if prompt.hand_mask is None:
        raise ValueError(f"expected a mask, but the prompt {prompt.region_id!r} is a {prompt.kind}")
    size_hw_px = prompt.hand_mask.height_px, prompt.hand_mask.width_px
    nothing = bytes(mask_to_brush_rle(np.zeros(size_hw_px, np.bool_)))
    region = mask_region(config, prompt.label, prompt.frame_index, size_hw_px, nothing, CERTAIN)
    meta = {"prompt": {"mask": prompt.hand_mask.model_dump(by_alias=True)}}
    return {**region, "id": painted_id, "origin": "manual", "meta": meta}
