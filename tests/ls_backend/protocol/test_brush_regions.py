"""Which brush regions are strokes and which are areas, and what tells their versions apart."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from ls_backend.protocol.brush_regions import brush_digest, is_thin
from ls_backend.protocol.regions import mask_to_brush_rle
from pipeline.types import BoolMask

SIZE_HW_PX = (240, 428)


def line(*xy_px: tuple[int, int], width_px: int = 9) -> BoolMask:
    mask = np.zeros(SIZE_HW_PX, np.uint8)
    cv2.polylines(mask, [np.array(xy_px, np.int32)], False, 1, width_px)
    return mask.astype(np.bool_)


def ellipse(x_px: int, y_px: int, half_width_px: int, half_height_px: int) -> BoolMask:
    mask = np.zeros(SIZE_HW_PX, np.uint8)
    cv2.ellipse(mask, (x_px, y_px), (half_width_px, half_height_px), 0, 0, 360, 1, -1)
    return mask.astype(np.bool_)


def scrubbed(step_px: int, width_px: int = 9) -> BoolMask:
    """A rectangle that one stroke filled, to and fro."""
    rows = range(60, 141, step_px)
    path = [(x, y) for n, y in enumerate(rows) for x in ((100, 220) if n % 2 == 0 else (220, 100))]
    return line(*path, width_px=width_px)


NOTHING = np.zeros(SIZE_HW_PX, np.bool_)
BROAD = line((40, 120), (390, 120), width_px=28)


@pytest.mark.parametrize(
    ("mask", "width_px", "thin"),
    [
        (NOTHING, 9, True),
        (NOTHING, None, True),
        (line((50, 50), (200, 60)), 9, True),
        (line((50, 50), (200, 60)), None, True),
        (line((50, 50), (58, 52)), 9, True),
        (line((50, 50), (58, 52)), None, True),
        (line((50, 50), (200, 60)) | line((100, 20), (130, 120)), 9, True),
        (line((50, 50), (200, 60)) | line((100, 20), (130, 120)), None, True),
        (line((50, 50), (120, 50), (120, 120), (50, 120), (50, 50)), 9, True),
        (line((50, 50), (120, 50), (120, 120), (50, 120), (50, 50)), None, True),
        (BROAD, 28, True),
        (BROAD, None, True),
        (line((100, 100), (130, 100), width_px=28), 28, True),
        (line((100, 100), (130, 100), width_px=28), None, False),
        (scrubbed(step_px=6), 9, False),
        (scrubbed(step_px=6), None, False),
        (scrubbed(step_px=20), 9, True),
        (ellipse(200, 120, 60, 40), 9, False),
        (ellipse(200, 120, 60, 40), None, False),
        (ellipse(200, 120, 60, 25) | line((150, 120), (150, 220)) | line((240, 120), (240, 220)), None, False),
        (ellipse(200, 120, 8, 8), 9, False),
        (ellipse(200, 120, 5, 5), None, True),
    ],
)
def test_strokes_and_areas(mask: BoolMask, width_px: float | None, thin: bool) -> None:
    assert is_thin(mask, width_px) is thin


def region(**value: Any) -> dict[str, Any]:
    return {"id": "r", "type": "brushlabels", "value": {"format": "rle", "brushlabels": ["obj1"], **value}}


RLE = mask_to_brush_rle(ellipse(200, 120, 60, 40))
TOUCH = {"type": "add", "relativePoints": [1.0, 2.0], "relativeStrokeWidth": 2.0}


def test_digests_tell_versions_apart() -> None:
    versions = [
        region(rle=RLE),
        region(rle=RLE, touches=[TOUCH]),
        region(rle=RLE, touches=[TOUCH, TOUCH]),
        region(touches=[TOUCH]),
        region(rle=mask_to_brush_rle(NOTHING)),
    ]
    digests = [brush_digest(version) for version in versions]
    assert None not in digests
    assert len(set(digests)) == len(versions)
    assert brush_digest(region(rle=RLE, touches=[])) == digests[0]


@pytest.mark.parametrize(
    "other",
    [
        {"id": "p", "type": "keypointlabels", "value": {"x": 1, "y": 2}},
        {"id": "p", "type": "keypointlabels", "value": {"rle": [1, 2]}},
        {"type": "brushlabels", "value": None},
        region(),
        region(rle="AAA"),
        region(rle=[1, 999]),
        region(rle=[1, "2"]),
    ],
)
def test_what_has_no_version(other: dict[str, Any]) -> None:
    assert brush_digest(other) is None
