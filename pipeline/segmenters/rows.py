"""Which objects a decoder can take in one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pipeline.segmenters.base import ObjectPrompts

T = TypeVar("T")


def per_row(name: str, values: Sequence[T | None] | None, n_objects: int) -> Sequence[T | None]:
    """An optional sequence of one item per object, with None for every object where there is none.

    Raises:
        ValueError: it has more or fewer items; the message uses ``name``.
    """
    if values is None:
        return [None] * n_objects
    if len(values) != n_objects:
        raise ValueError(f"{name} must have one item per object, but got {len(values)} for {n_objects} objects")
    return values


def alike_rows(objects: Sequence[ObjectPrompts], max_rows: int) -> Iterator[list[int]]:
    """Rows with equally many points and the same presence of a box, at most so many; rows without prompts in none."""
    alike: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    for row, each in enumerate(objects):
        if len(each.points_xy_px) or each.box_xyxy_px is not None:
            alike[len(each.points_xy_px), each.box_xyxy_px is not None].append(row)
    for rows in alike.values():
        for start in range(0, len(rows), max_rows):
            yield rows[start : start + max_rows]
