"""What a mask says about itself."""

from __future__ import annotations

import numpy as np

from pipeline.types import BoolMask


def bounding_box(mask: BoolMask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask that is not empty."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)
