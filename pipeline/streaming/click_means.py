"""How a person's single click on a known object is taken while a video arrives."""

from __future__ import annotations

from enum import Enum


class ClickMeans(str, Enum):
    """What a single positive click on an object that is known says.

    ``WHERE``: where the object is. On the mask that was found it confirms that. Beside it, the last mask found without
    a wish for help is moved there, and what the method remembers of the object finds it again from that.

    ``NEW_MASK``: that what was found is wrong. The segmenter makes a new mask of the click alone (thesis, 6.4.4). For
    segmenters that make good masks of single clicks.
    """

    WHERE = "where"
    NEW_MASK = "new-mask"
