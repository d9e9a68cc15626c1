"""Passes that take turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.schedule import schedule


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6))
def test_a_schedule_walks_every_pass_to_its_end_in_order(ends: list[tuple[int, int]]) -> None:
    passes = [range(low, high) if low <= high else range(low, high, -1) for low, high in ends]
    walked: list[list[int]] = [[] for _ in passes]
    for frame_index, rows in schedule(passes):
        assert rows
        assert len({passes[row].step for row in rows}) == 1
        for row in rows:
            walked[row].append(frame_index)
    assert walked == [list(each) for each in passes]
