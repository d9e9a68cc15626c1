"""The masks of one clip, as exporters take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.types import BoolMask, RunLengthMask


@dataclass(frozen=True)
class ExportedClip:
    """The masks of one clip.

    Attributes:
        name: folder name of the clip, unique within an export.
        frame_names: file name of each frame with its suffix ("00000.jpg"); stems unique within the clip.
        frame_sizes_hw_px: height and width of each frame, as many as ``frame_names``.
        masks: by object id (from 1), then by 0-based frame index; empty masks are left out.

    Raises:
        ValueError: the parts do not fit together, for instance a mask of another size than its frame.
    """

    name: str
    frame_names: tuple[str, ...]
    frame_sizes_hw_px: tuple[tuple[int, int], ...]
    masks: Mapping[int, Mapping[int, RunLengthMask]]

    def __post_init__(self) -> None:
        if len(self.frame_names) != len(self.frame_sizes_hw_px):
            raise ValueError(
                f"clip {self.name}: expected one size per frame, but got {len(self.frame_sizes_hw_px)} sizes "
                f"for {len(self.frame_names)} frames"
            )
        for object_id, by_frame in self.masks.items():
            if object_id < 1:
                raise ValueError(f"clip {self.name}: object ids start at 1 (0 is the background), but got {object_id}")
            for frame_index, mask in by_frame.items():
                self._check(object_id, frame_index, mask)

    def _check(self, object_id: int, frame_index: int, mask: RunLengthMask) -> None:
        where = f"clip {self.name}, object {object_id}, frame {frame_index}"
        if not 0 <= frame_index < len(self.frame_names):
            raise ValueError(f"{where}: the clip has {len(self.frame_names)} frames")
        height_px, width_px = self.frame_sizes_hw_px[frame_index]
        if (mask.height_px, mask.width_px) != (height_px, width_px):
            raise ValueError(
                f"{where}: the frame is {width_px}x{height_px} px, but its mask is {mask.width_px}x{mask.height_px} px"
            )

    @property
    def n_masks(self) -> int:
        """Masks of all objects on all frames."""
        return sum(len(by_frame) for by_frame in self.masks.values())

    def decoded(self, frame_index: int) -> Iterator[tuple[int, BoolMask]]:
        """The objects on one frame in ascending order of their ids, each with its mask (H, W) bool."""
        for object_id in sorted(self.masks):
            mask = self.masks[object_id].get(frame_index)
            if mask is not None:
                yield object_id, mask.decode()
