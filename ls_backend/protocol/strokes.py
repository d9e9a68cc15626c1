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

import numpy as np

from ls_backend.errors import RequestError
from ls_backend.protocol.brush import mask_to_brush_rle
from ls_backend.protocol.brush_regions import Stored, brush_digest
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import BrushRegion, HeldMask, Json, MaskNote, parse
from ls_backend.protocol.prompts import MASK_NOTE, LabelPrompt, hold_mask, read_note
from ls_backend.protocol.regions import CERTAIN, mask_region, region_id
from ls_backend.protocol.scribbles import scribbles_in, stands_in
from pipeline.types import RunLengthMask


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
