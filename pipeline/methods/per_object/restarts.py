"""When trackers restart from a predicted mask (SAM-PT, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.trackers.points.base import PointTracker

AUTO = "auto"
RESTARTS = ("never", "horizon", "median_area", "similar_area", "similar_area_together")
UNSEEN_COST = 100.0
"""Relative difference in area that an empty mask counts as: an object that is not seen is a bad place to restart."""


@dataclass(frozen=True)
class RestartSettings:
    """When trackers restart from a predicted mask (SAM-PT, appendix A).

    Attributes:
        variant: ``never``; ``horizon`` (A: at the last frame of the horizon); ``median_area`` (B: where the mask area
            is closest to the horizon's median); ``similar_area`` (C: where it is closest to the first mask's);
            ``similar_area_together`` (D: as C, at one frame for all objects that are followed from the same frame,
            whose points are then negative points of each other). B, C and D segment the frames after the chosen one
            again, and choose among the second half of the horizon, so that no pass takes more than twice as long.
        horizon_frames: SAM-PT's h.
    """

    variant: str = "horizon"
    horizon_frames: int = 8

    def __post_init__(self) -> None:
        if self.variant not in RESTARTS:
            raise ValueError(f"unknown restart variant {self.variant!r}; known are {', '.join(RESTARTS)}")
        if self.horizon_frames < 1:
            raise ValueError(f"the restart horizon must be at least 1 frame, but got {self.horizon_frames}")

    @classmethod
    def of(cls, variant: str, horizon_frames: int, points: PointTracker) -> RestartSettings:
        """With ``auto``, what suits the point tracker: one that keeps its points never restarts.

        Raises:
            ValueError: the variant is unknown, or the horizon below 1.
        """
        if variant not in (AUTO, *RESTARTS):
            raise ValueError(f"unknown restart variant {variant!r}; known are {', '.join((AUTO, *RESTARTS))}")
        if variant == AUTO:
            variant = "never" if getattr(points, "keeps_points", False) else "horizon"
        return cls(variant, horizon_frames)

    @property
    def looks_back(self) -> bool:
        """Whether the frame to restart from is chosen when the whole horizon is segmented."""
        return self.variant not in ("never", "horizon")

    @property
    def together(self) -> bool:
        """Whether objects restart at one frame, and their points are negative points of each other."""
        return self.variant == "similar_area_together"

    def choose(self, areas_px: Sequence[int], first_area_px: int) -> int:
        """The position in the horizon's masks from which one object restarts."""
        return self.choose_together([areas_px], [first_area_px])

    def choose_together(self, areas_px: Sequence[Sequence[int]], first_areas_px: Sequence[int]) -> int:
        """The position in the horizon's masks from which several objects restart.

        Args:
            areas_px: of the masks of each object, equally many for all.
            first_areas_px: of each object's first mask.
        """
        n_masks = len(areas_px[0])
        later = range(n_masks // 2, n_masks)
        if not self.looks_back or not any(areas[k] for areas in areas_px for k in later):
            return n_masks - 1
        wanted = first_areas_px if self.variant != "median_area" else [_median(areas) for areas in areas_px]
        pairs = list(zip(areas_px, wanted, strict=True))
        return min(later, key=lambda k: (sum(_difference(areas[k], area) for areas, area in pairs), -k))


def _median(areas_px: Sequence[int]) -> int:
    """The median area of the masks that are not empty; 0 where all are."""
    visible = sorted(area_px for area_px in areas_px if area_px)
    return visible[len(visible) // 2] if visible else 0


def _difference(area_px: int, wanted_px: int) -> float:
    """How much an area differs from the wanted one, as a share of that; `UNSEEN_COST` for an empty mask."""
    return abs(area_px - wanted_px) / max(1, wanted_px) if area_px else UNSEEN_COST
