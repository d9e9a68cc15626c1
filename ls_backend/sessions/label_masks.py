"""Masks as they go to Label Studio, by label and frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ls_backend.protocol.regions import mask_to_brush_rle, region_id
from ls_backend.store.records import SessionRecord
from pipeline.types import RunLengthMask


@dataclass(frozen=True)
class LabelMask:
    """A mask as it goes to Label Studio: ``region_id`` names label and frame."""

    region_id: str
    label: str
    frame_index: int
    mask: RunLengthMask
    score: float

    @cached_property
    def brush_rle(self) -> bytes:
        """Label Studio's coding of the mask; made at first use, which takes milliseconds, and kept."""
        return bytes(mask_to_brush_rle(self.mask.decode()))

    def rescored(self, score: float) -> LabelMask:
        """The same mask with another confidence; a coding that was made is kept."""
        if score == self.score:
            return self
        mask = replace(self, score=score)
        if "brush_rle" in self.__dict__:
            mask.__dict__["brush_rle"] = self.brush_rle
        return mask

    @property
    def coded_bytes(self) -> int:
        """How much the coding takes, if it was made."""
        return len(self.__dict__.get("brush_rle", b""))


def label_masks(record: SessionRecord) -> Iterator[LabelMask]:
    """The masks of a record, by label and frame."""
    for label, object_id in record.labels.items():
        saved = record.objects.get(object_id)
        for frame_index, known in sorted(saved.masks.items()) if saved is not None else ():
            yield LabelMask(region_id(label, frame_index), label, frame_index, known.resolved, known.score)
