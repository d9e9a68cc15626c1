"""Records become rows, and rows become equal records."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_backend.store import tables
from ls_backend.store.records import EditorCopy
from pipeline.masks import SoftMask
from pipeline.session.object_state import FrameMask, ObjectState, prompts_by_frame
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

pixels = st.floats(0, 1e6, allow_nan=False)
frames = st.integers(0, 5000)
masks = st.builds(
    lambda seed, height, width: RunLengthMask.encode(np.random.default_rng(seed).random((height, width)) > 0.5),
    st.integers(0, 100),
    st.integers(1, 40),
    st.integers(1, 40),
)
prompts: st.SearchStrategy[Prompt] = st.one_of(
    st.builds(PointPrompt, st.just(3), frames, pixels, pixels, st.booleans()),
    st.builds(BoxPrompt, st.just(3), frames, st.tuples(pixels, pixels, pixels, pixels)),
    st.builds(MaskPrompt, st.just(3), frames, masks),
    st.builds(
        ScribblePrompt,
        st.just(3),
        frames,
        st.lists(st.tuples(pixels, pixels), min_size=1).map(tuple),
        pixels,
        st.booleans(),
    ),
)


@given(prompts)
def test_a_prompt_comes_back_equal(prompt: Prompt) -> None:
    assert tables.prompt_from_json(3, json.loads(json.dumps(tables.prompt_to_json(prompt)))) == prompt


@given(st.frozensets(st.integers(0, 60)))
def test_frames_come_back(frame_indices: frozenset[int]) -> None:
    assert tables.frames_from_text(tables.frames_to_text(frame_indices)) == frame_indices


def test_ranges_of_frames_are_short() -> None:
    assert tables.frames_to_text(set(range(3000)) - {7}) == "0-6,8-2999"


@given(masks, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1), frames)
def test_a_mask_comes_back_equal(
    raw: RunLengthMask, differs: bool, has_soft: bool, prompted: bool, score: float, frame_index: int
) -> None:
    resolved = RunLengthMask.encode(~raw.decode()) if differs else raw
    logits = np.where(raw.decode(), 2.0, -2.0).astype(np.float32)
    mask = FrameMask(raw, resolved, score, prompted, SoftMask.pack(logits) if has_soft else None)
    row = tables.mask_row(1, frame_index, mask)
    assert (row["object_id"], row["frame_index"]) == (1, frame_index)
    assert (row["shown"] is None) == (resolved == raw)
    assert tables.mask_from_row(SimpleNamespace(**row)) == mask


@given(st.lists(prompts, max_size=4), st.frozensets(frames), st.frozensets(frames), st.integers(0, 99))
def test_an_object_comes_back_equal(
    given_prompts: list[Prompt], stale: frozenset[int], interactions: frozenset[int], round_index: int
) -> None:
    saved = ObjectState(3, prompts_by_frame(given_prompts), {}, set(stale), {}, round_index, set(interactions))
    assert tables.object_from_row(3, tables.object_row(3, "obj", saved)["state"], {}, {}) == saved


@given(
    st.booleans(), st.integers(1, 9), st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1))
)
def test_an_editor_copy_comes_back_equal(present: bool, delivered_in: int, saved_in: dict[bytes, int]) -> None:
    copy = EditorCopy(present, delivered_in, saved_in)
    assert tables.editor_copy_from_row(SimpleNamespace(**tables.editor_copy_row("obj-00001", copy))) == copy


def test_damaged_rows_are_named() -> None:
    with pytest.raises(ValueError, match="'lasso'; expected point, box, scribble or mask"):
        tables.prompt_from_json(1, {"kind": "lasso", "frame_index": 0})
    with pytest.raises(ValueError, match="'obj-00001' is cut off: 19 bytes"):
        tables.editor_copy_from_row(
            SimpleNamespace(mask_id="obj-00001", present=True, delivered_in=1, saved_in=b"x" * 19)
        )
