"""Invented session records, made without a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ls_backend.store.records import EditorCopy, EditorRecord, PromptRecord, RoundRecord, SessionRecord, urls_digest
from pipeline.masks import SoftMask
from pipeline.session.object_state import FrameMask, ObjectState, prompts_by_frame
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, RunLengthMask, ScribblePrompt

SIZE_HW_PX = (24, 32)


def run_length_mask(seed: int) -> RunLengthMask:
    return RunLengthMask.encode(np.random.default_rng(seed).random(SIZE_HW_PX) > 0.5)


def frame_mask(seed: int, soft_bytes: int = 40, **changes: Any) -> FrameMask:
    """A random mask, with random bytes in place of its probabilities."""
    mask, soft = run_length_mask(seed), SoftMask(*SIZE_HW_PX, np.random.default_rng(seed).bytes(soft_bytes))
    return replace(FrameMask(mask, mask, 0.25, False, soft, 0.1 + seed / 3000, 0.7 + seed / 7000), **changes)


def object_state(object_id: int = 1, n_frames: int = 5, soft_bytes: int = 40) -> ObjectState:
    """An object with prompts of all kinds; every field of its masks on frames 0 and 1 differs."""
    masks = {frame_index: frame_mask(object_id * 100 + frame_index, soft_bytes) for frame_index in range(n_frames)}
    masks[0] = FrameMask(run_length_mask(1), run_length_mask(2), 1.0, True, None)
    prompts = (
        PointPrompt(object_id, 0, 1 / 3, 0.1 + 0.2, False),
        BoxPrompt(object_id, 0, (0.5, 1.0, 3.25, 1e-7 + 4)),
        MaskPrompt(object_id, 0, run_length_mask(3)),
        ScribblePrompt(object_id, 3, ((0.1, 0.2), (5.0, 6.5)), 4.2, False),
    )
    return ObjectState(object_id, prompts_by_frame(prompts), masks, {2, 3, 4, 7}, {0: run_length_mask(4)}, 3, {0, 3})


def session_record(task: str = "7", used_at_s: float = 2000.0, **changes: Any) -> SessionRecord:
    """A session with two labels, of which the second has no masks yet."""
    raw = {"id": "b1", "value": {"x": 0.1, "rectanglelabels": ["ein Öbjekt"]}, "meta": {"prompt": {"pos": True}}}
    copies = {"obj-00000": EditorCopy(True, 2, {b"d" * 16: 1, b"e" * 16: 2}), "obj-00001": EditorCopy(False, 1)}
    return replace(
        SessionRecord(
            "5", task, urls_digest(["/a.png", "/b.png"]), "i_pt+lite", 1000.5, used_at_s, 2,
            {"ein Öbjekt": 1, "später": 2},
            (PromptRecord("ein Öbjekt", "box", "b1", raw), PromptRecord("ein Öbjekt", "point", "p1", {"id": "p1"})),
            EditorRecord({"ein Öbjekt": frozenset({"b1"})}, {"b1": 1, "p1": 2}, 1999.5, copies),
            {1: object_state()},
            (RoundRecord(1, 1001.0, (1,), ("b1",), 5, True), RoundRecord(2, 1002.0, (1,), ("b1", "p1"), 2, False)),
        ),
        **changes,
    )  # fmt: skip
