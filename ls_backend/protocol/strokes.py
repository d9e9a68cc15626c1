"""What the annotator drew with Label Studio's brush and eraser: scribbles, and masks made by hand.

Measured with Label Studio 1.23 (``tests/contract``, ``tests/e2e/test_scribbles.py``):

- A stroke asks for nothing. It is saved with the draft some seconds later and comes with the next smart click.
- A new stroke makes a region with a random id. While a region is selected, brush and eraser add strokes to it.
- A draft keeps strokes as ``touches`` on top of the ``rle`` the region had; an annotation has the pixels alone, except
  for frames that were not shown since the page was loaded: those are stored as they were loaded, touches included.
- A stroke on a mask of this backend turns its ``origin`` from "prediction" into "prediction-changed"; an answer that
  replaces the mask drops the strokes and turns it back. So the origin tells what a person had the last word on, even
  after a restart, and where touches have the origin "prediction", an answer replaced them.

A region of the annotator's own is a set of scribbles where it is thin, else a painted mask, see
`ls_backend.protocol.brush_regions.is_thin`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ls_backend.errors import RequestError
from ls_backend.protocol.brush_regions import (
    Stored,
    brush_digest,
    distance_to_path,
    draw_touches,
    stroke_path_px,
    stroke_width_px,
)
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import PCT, BrushRegion, HeldMask, Json, MaskNote, ScribbleNote, Touch, parse
from ls_backend.protocol.prompts import MASK_NOTE, SCRIBBLE_NOTE, LabelPrompt, hold_mask, read_note
from ls_backend.protocol.regions import CERTAIN, mask_region, mask_to_brush_rle, region_id
from pipeline.skeleton import longest_paths, thinned
from pipeline.types import RunLengthMask

SAME_STROKES_IOU = 0.7
"""From here on the pixels of a region are what the strokes known of it painted."""
COORDINATE_DIGITS = 4


def stands_in(prompt: LabelPrompt) -> str:
    """The brush region a scribble was read from; nothing for other prompts."""
    return prompt.region.stands_in if isinstance(prompt.region, ScribbleNote) else ""


def scribbles_in(stored: Stored, known: list[LabelPrompt]) -> list[LabelPrompt]:
    """The scribbles of one thin region in the order of drawing.

    A stroke that another one of the other kind painted over counts where it was left.

    Args:
        stored: the region.
        known: scribbles read from it earlier. Where pixels alone are stored by now, they tell which strokes were
            positive and which negative; without them all are positive.
    """
    touches = stored.region.value.touches
    if known and (stored.base.any() or not touches) and _are_the_same(stored, known):
        found = list(known)
    else:
        found = _traced(stored)
    for number, touch in enumerate(touches):
        later = [other for other in touches[number + 1 :] if other.type != touch.type]
        for part, run in enumerate(_left_over(touch, later, stored.size_hw_px)):
            name = f"{touch.id or number}.{part}"
            found.append(_scribble(stored, name, run, touch.width_pct, positive=touch.type == "add"))
    return found


def _are_the_same(stored: Stored, known: list[LabelPrompt]) -> bool:
    """Whether the pixels of a region are what the known scribbles painted."""
    notes = [prompt.region for prompt in known if isinstance(prompt.region, ScribbleNote)]
    touches = [
        Touch(relativePoints=note.path, relativeStrokeWidth=note.width_pct, type="add" if note.positive else "eraser")
        for note in notes
    ]
    painted = draw_touches(np.zeros(stored.size_hw_px, np.bool_), touches)
    union_px = int(np.count_nonzero(painted | stored.base))
    return not union_px or np.count_nonzero(painted & stored.base) / union_px >= SAME_STROKES_IOU


def _traced(stored: Stored) -> list[LabelPrompt]:
    """Scribbles along the middle of a thin region; nothing tells how it was erased, so all are positive."""
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


def _left_over(touch: Touch, later: list[Touch], size_hw_px: tuple[int, int]) -> list[NDArray[np.float64]]:
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
    stored: Stored, name: str, path_px: NDArray[np.float64], width_pct: float, *, positive: bool
) -> LabelPrompt:
    height_px, width_px = stored.size_hw_px
    path_pct = np.round(path_px / (width_px, height_px) * PCT, COORDINATE_DIGITS)
    value = {
        "label": stored.label,
        "stands_in": stored.region.id,
        "path": path_pct.ravel().tolist(),
        "width_pct": width_pct,
        "positive": positive,
    }
    note_id = f"{stored.region.id}/{name}"
    return read_note({"id": note_id, "type": SCRIBBLE_NOTE, "item_index": stored.frame_index, "value": value})


@dataclass(frozen=True)
class Truth:
    """One label's mask on one frame as the annotator made it by hand: painted, or a mask of this backend changed.

    ``stored`` are all regions that show it. ``version`` changes with every stroke. ``held`` is the mask itself where an
    answer took it out of the painted region, see `taken_over`.
    """

    label: str
    frame_index: int
    version: str
    stored: tuple[Stored, ...]
    held: HeldMask | None = None

    @property
    def painted(self) -> tuple[str, ...]:
        """Ids of the annotator's own regions that show it."""
        return tuple(stored.region.id for stored in self.stored if not stored.is_mask_of_backend)

    def prompt(self, settles: Iterable[str]) -> LabelPrompt:
        """The mask as a prompt: all that the annotator sees on the frame in the label's colour, but for scribbles.

        Args:
            settles: ids of the prompts on the frame that came before.

        Raises:
            ValueError: the run lengths of a region are damaged.
        """
        held = self.held
        if held is None:
            mask = np.logical_or.reduce([stored.mask for stored in self.stored])
            held = hold_mask(mask, version=self.version, settles=sorted(settles))
        value = {"label": self.label, "mask": held.model_dump(), "painted": list(self.painted)}
        note_id = mask_note_id(self.label, self.frame_index)
        return read_note({"id": note_id, "type": MASK_NOTE, "item_index": self.frame_index, "value": value})


def mask_note_id(label: str, frame_index: int) -> str:
    """The id of the prompt that says what a label's mask on a frame is."""
    return f"{region_id(label, frame_index)}/by-hand"


@dataclass(frozen=True)
class Strokes:
    """The brush regions of one draft or annotation: the annotator's own, and those of this backend by id."""

    own: tuple[Stored, ...]
    of_backend: Mapping[str, Stored]
    problems: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that a person drew something for."""
        changed = [stored for stored in self.of_backend.values() if stored.is_changed_by_hand]
        return tuple(dict.fromkeys(stored.label for stored in (*self.own, *changed)))

    @property
    def painted(self) -> frozenset[str]:
        """Ids of the annotator's own regions that are painted masks."""
        return frozenset(stored.region.id for stored in self.own if not stored.is_thin)

    def scribbles(self, label: str, known: Iterable[LabelPrompt]) -> tuple[LabelPrompt, ...]:
        """The strokes of one label.

        Args:
            label: the label.
            known: scribbles read earlier. They tell positive and negative strokes of a region whose pixels alone are
                stored by now; without them all that is there is positive.
        """
        found: list[LabelPrompt] = []
        for stored in self.own:
            if stored.label == label and stored.is_thin:
                found += scribbles_in(stored, [prompt for prompt in known if stands_in(prompt) == stored.region.id])
        return tuple(found)

    def truths(self, label: str) -> tuple[Truth, ...]:
        """The masks of one label that were made by hand, by frame."""
        by_frame: dict[int, list[Stored]] = {}
        held: dict[int, HeldMask] = {}
        for stored in self.own:
            if stored.label != label:
                continue
            if not stored.is_thin:
                by_frame.setdefault(stored.frame_index, []).append(stored)
            elif stored.region.meta.prompt.mask is not None:
                held[stored.frame_index] = stored.region.meta.prompt.mask
        masks = {stored.frame_index: stored for stored in self.of_backend.values() if stored.label == label}
        changed = {frame_index for frame_index, stored in masks.items() if stored.is_changed_by_hand}
        return tuple(
            self._truth(label, frame_index, by_frame.get(frame_index, []), masks.get(frame_index), held)
            for frame_index in sorted({*by_frame, *changed, *held})
        )

    def _truth(
        self, label: str, frame_index: int, painted: list[Stored], mask: Stored | None, held: Mapping[int, HeldMask]
    ) -> Truth:
        made = [*painted, *([mask] if mask is not None and mask.is_changed_by_hand else [])]
        if not made:
            return Truth(label, frame_index, held[frame_index].version, (), held[frame_index])
        digests = sorted(stored.digest for stored in made)
        version = hashlib.blake2b(b"".join(digests), digest_size=8).hexdigest()
        return Truth(label, frame_index, version, (*painted, *([mask] if mask is not None else [])))

    def shows(self, note: LabelPrompt, masks: Iterable[RunLengthMask]) -> bool:
        """Whether a frame whose mask was made by hand shows a mask of this backend now, namely one of some masks."""
        stored = self.of_backend.get(region_id(note.label, note.frame_index))
        if stored is None:
            return False
        try:
            return RunLengthMask.encode(stored.mask) in list(masks)
        except ValueError:
            return False


def read_strokes(document: Iterable[Json], config: LabelConfig) -> Strokes:
    """Read the brush regions of a draft or an annotation; damaged ones are named in ``problems``."""
    own: dict[str, Stored] = {}
    of_backend: dict[str, Stored] = {}
    problems: list[str] = []
    for raw in document:
        digest = brush_digest(raw) if raw.get("from_name") == config.brush_control else None
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
        stored = Stored(region, labels[0], digest)
        try:
            _ = stored.mask if not stored.is_mask_of_backend or stored.is_changed_by_hand else None
        except ValueError as error:
            problems.append(f"the brush region {region.id!r} on frame {region.item_index} is damaged: {error}")
            continue
        (of_backend if stored.is_mask_of_backend else own)[region.id] = stored
    return Strokes(tuple(own.values()), of_backend, tuple(problems))


def taken_over(prompt: LabelPrompt, config: LabelConfig) -> list[Json]:
    """The painted regions of a mask prompt emptied, the mask kept in their ``meta``.

    Where later clicks change a painted mask, this backend's own region shows what became of it; the paint below would
    hide that, and would count as a second mask of the label.
    """
    note = prompt.region
    if not isinstance(note, MaskNote):
        return []
    size_hw_px = note.mask.height_px, note.mask.width_px
    nothing = bytes(mask_to_brush_rle(np.zeros(size_hw_px, np.bool_)))
    region = mask_region(config, prompt.label, prompt.frame_index, size_hw_px, nothing, CERTAIN)
    meta = {"prompt": {"mask": note.mask.model_dump()}}
    return [{**region, "id": painted_id, "origin": "manual", "meta": meta} for painted_id in note.painted]
