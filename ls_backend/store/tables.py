"""The tables of the store, and how records become rows and rows become records.

Everything but the version belongs to a session and is deleted with it. JSON keeps floats exactly, so a stored prompt
compares equal with the same prompt sent again.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ls_backend.store.records import EditorCopy, EditorRecord, PromptRecord, RoundRecord
from pipeline.masks import SoftMask
from pipeline.session.object_state import FrameMask, ObjectState, prompts_by_frame
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

RowValues: TypeAlias = dict[str, Any]
"""The columns of one row, without the session's id."""
_DIGEST_AND_ROUND = struct.Struct(">16sI")
SCHEMA_VERSION = 2
_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite generates ids only for INTEGER.


class Base(DeclarativeBase):
    """All tables below. Their names begin with ``ivos_``, so that they may share a PostgreSQL database."""


class SchemaRow(Base):
    """One row: the version of the tables."""

    __tablename__ = "ivos_schema"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class SessionRow(Base):
    """One session. ``editor`` is the `EditorRecord` without its copies, as JSON."""

    __tablename__ = "ivos_sessions"
    __table_args__ = (Index("ivos_sessions_by_task", "project", "task"), Index("ivos_sessions_by_use", "used_at_s"))
    id: Mapped[int] = mapped_column(_ID, primary_key=True)
    project: Mapped[str] = mapped_column(Text)
    task: Mapped[str] = mapped_column(Text)
    urls_digest: Mapped[str] = mapped_column(Text)
    model_version: Mapped[str] = mapped_column(Text)
    opened_at_s: Mapped[float]
    used_at_s: Mapped[float]
    newest_round: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    editor: Mapped[str] = mapped_column(Text)


def _session_id() -> Mapped[int]:
    return mapped_column(_ID, ForeignKey("ivos_sessions.id", ondelete="CASCADE"), primary_key=True)


class ObjectRow(Base):
    """One label. ``state`` is its `ObjectState` without masks and id, as JSON; null before its first round."""

    __tablename__ = "ivos_objects"
    session_id: Mapped[int] = _session_id()
    object_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(Text)
    state: Mapped[str | None] = mapped_column(Text)


class PromptRow(Base):
    """One prompt; ``raw`` is the region as it came, as JSON."""

    __tablename__ = "ivos_prompts"
    session_id: Mapped[int] = _session_id()
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    region_id: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    raw: Mapped[str] = mapped_column(Text)


class RoundRow(Base):
    """One round. ``object_ids`` and ``prompt_ids`` are JSON lists."""

    __tablename__ = "ivos_rounds"
    session_id: Mapped[int] = _session_id()
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at_s: Mapped[float]
    object_ids: Mapped[str] = mapped_column(Text)
    prompt_ids: Mapped[str] = mapped_column(Text)
    n_masks: Mapped[int]
    finished: Mapped[bool]


class MaskRow(Base):
    """The mask of one object on one frame, a `FrameMask`.

    ``own`` are the run lengths of its raw mask, ``shown`` those of its resolved mask (null: the same).
    """

    __tablename__ = "ivos_masks"
    session_id: Mapped[int] = _session_id()
    object_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    frame_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    height_px: Mapped[int]
    width_px: Mapped[int]
    own: Mapped[bytes] = mapped_column(LargeBinary)
    shown: Mapped[bytes | None] = mapped_column(LargeBinary)
    score: Mapped[float]
    prompted: Mapped[bool]
    soft: Mapped[bytes | None] = mapped_column(LargeBinary)
    # Since version 2:
    uncertainty: Mapped[float | None]
    agreement: Mapped[float | None]


class BeforePromptsRow(Base):
    """The mask that a prompted frame had before its first prompt."""

    __tablename__ = "ivos_before_prompts"
    session_id: Mapped[int] = _session_id()
    object_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    frame_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    height_px: Mapped[int]
    width_px: Mapped[int]
    counts: Mapped[bytes] = mapped_column(LargeBinary)


class EditorCopyRow(Base):
    """The editor's copy of one mask. ``saved_in`` alternates digests (16 bytes) and round numbers (4 bytes)."""

    __tablename__ = "ivos_mask_notes"
    session_id: Mapped[int] = _session_id()
    mask_id: Mapped[str] = mapped_column(Text, primary_key=True)
    present: Mapped[bool]
    delivered_in: Mapped[int]
    saved_in: Mapped[bytes] = mapped_column(LargeBinary)


def prompt_to_json(prompt: Prompt) -> RowValues:
    """One prompt without its object's id."""
    frame = {"frame_index": prompt.frame_index}
    if isinstance(prompt, PointPrompt):
        return {"kind": "point", **frame, "xy_px": [prompt.x_px, prompt.y_px], "positive": prompt.positive}
    if isinstance(prompt, BoxPrompt):
        return {"kind": "box", **frame, "box_xyxy_px": prompt.box_xyxy_px}
    if isinstance(prompt, ScribblePrompt):
        stroke = {"path_xy_px": prompt.path_xy_px, "width_px": prompt.width_px, "positive": prompt.positive}
        return {"kind": "scribble", **frame, **stroke}
    # COCO's compressed run lengths are printable ASCII.
    mask = prompt.mask
    return {"kind": "mask", **frame, "size": [mask.height_px, mask.width_px], "counts": mask.counts.decode("ascii")}


def prompt_from_json(object_id: int, values: RowValues) -> Prompt:
    """The reverse of `prompt_to_json`.

    Raises:
        ValueError: its kind is unknown.
        KeyError: a field is missing.
    """
    kind, frame_index = values["kind"], values["frame_index"]
    if kind == "point":
        x_px, y_px = values["xy_px"]
        return PointPrompt(object_id, frame_index, x_px, y_px, values["positive"])
    if kind == "box":
        x0, y0, x1, y1 = values["box_xyxy_px"]
        return BoxPrompt(object_id, frame_index, (x0, y0, x1, y1))
    if kind == "scribble":
        path = tuple((x_px, y_px) for x_px, y_px in values["path_xy_px"])
        return ScribblePrompt(object_id, frame_index, path, values["width_px"], values["positive"])
    if kind == "mask":
        height_px, width_px = values["size"]
        return MaskPrompt(object_id, frame_index, RunLengthMask(height_px, width_px, values["counts"].encode("ascii")))
    raise ValueError(f"a stored prompt is of the kind {kind!r}; expected point, box, scribble or mask")


def frames_to_text(frame_indices: Collection[int]) -> str:
    """Frame indices as ranges: ``0-4,7``."""
    runs = itertools.groupby(enumerate(sorted(frame_indices)), key=lambda pair: pair[1] - pair[0])
    bounds = [[index for _, index in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in bounds)


def frames_from_text(text: str) -> frozenset[int]:
    """The reverse of `frames_to_text`.

    Raises:
        ValueError: the text is no list of ranges.
    """
    frames: set[int] = set()
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        frames.update(range(int(first), int(last or first) + 1))
    return frozenset(frames)


def object_row(object_id: int, label: str, saved: ObjectState | None) -> RowValues:
    """An `ObjectRow`."""
    state = None if saved is None else json.dumps(
        {
            "round_index": saved.round_index,
            "prompts": [prompt_to_json(prompt) for prompt in saved.all_prompts],
            "stale": frames_to_text(saved.stale),
            "interaction_frames": frames_to_text(saved.interaction_frames),
        }
    )  # fmt: skip
    return {"object_id": object_id, "label": label, "state": state}


def object_from_row(
    object_id: int, state: str, masks: dict[int, FrameMask], masks_before_prompts: dict[int, RunLengthMask]
) -> ObjectState:
    """The `ObjectState` of a row's ``state`` and masks.

    Raises:
        ValueError: the state is damaged.
        KeyError: a field is missing.
    """
    fields = json.loads(state)
    return ObjectState(
        object_id,
        prompts_by_frame(prompt_from_json(object_id, prompt) for prompt in fields["prompts"]),
        masks,
        set(frames_from_text(fields["stale"])),
        masks_before_prompts,
        fields["round_index"],
        set(frames_from_text(fields["interaction_frames"])),
    )


def mask_row(object_id: int, frame_index: int, mask: FrameMask) -> RowValues:
    """A `MaskRow`."""
    return {
        "object_id": object_id,
        "frame_index": frame_index,
        "height_px": mask.raw.height_px,
        "width_px": mask.raw.width_px,
        "own": mask.raw.counts,
        "shown": None if mask.resolved == mask.raw else mask.resolved.counts,
        "score": float(mask.score),
        "prompted": bool(mask.prompted),
        "soft": None if mask.soft is None else mask.soft.data,
        "uncertainty": None if mask.uncertainty is None else float(mask.uncertainty),
        "agreement": None if mask.agreement is None else float(mask.agreement),
    }


def mask_from_row(row: Any) -> FrameMask:
    """The `FrameMask` of a `MaskRow`."""
    size_hw_px = row.height_px, row.width_px
    raw = RunLengthMask(*size_hw_px, bytes(row.own))
    resolved = raw if row.shown is None else RunLengthMask(*size_hw_px, bytes(row.shown))
    soft = None if row.soft is None else SoftMask(*size_hw_px, bytes(row.soft))
    return FrameMask(raw, resolved, row.score, row.prompted, soft, row.uncertainty, row.agreement)


def mask_before_prompts_row(object_id: int, frame_index: int, mask: RunLengthMask) -> RowValues:
    """A `BeforePromptsRow`."""
    return {
        "object_id": object_id,
        "frame_index": frame_index,
        "height_px": mask.height_px,
        "width_px": mask.width_px,
        "counts": mask.counts,
    }


def prompt_row(position: int, prompt: PromptRecord) -> RowValues:
    """A `PromptRow`; ``position`` keeps the order."""
    names = {"region_id": prompt.region_id, "label": prompt.label, "kind": prompt.kind}
    return {"position": position, **names, "raw": json.dumps(prompt.raw)}


def round_row(record: RoundRecord) -> RowValues:
    """A `RoundRow`."""
    return {
        "number": record.number,
        "started_at_s": record.started_at_s,
        "object_ids": json.dumps(record.object_ids),
        "prompt_ids": json.dumps(record.prompt_ids),
        "n_masks": record.n_masks,
        "finished": record.finished,
    }


def round_from_row(row: Any) -> RoundRecord:
    """The `RoundRecord` of a `RoundRow`."""
    ids = tuple(json.loads(row.object_ids)), tuple(json.loads(row.prompt_ids))
    return RoundRecord(row.number, row.started_at_s, *ids, row.n_masks, row.finished)


def editor_copy_row(mask_id: str, copy: EditorCopy) -> RowValues:
    """An `EditorCopyRow`."""
    saved_in = b"".join(_DIGEST_AND_ROUND.pack(digest, number) for digest, number in copy.saved_in.items())
    return {"mask_id": mask_id, "present": copy.present, "delivered_in": copy.delivered_in, "saved_in": saved_in}


def editor_copy_from_row(row: Any) -> EditorCopy:
    """The `EditorCopy` of an `EditorCopyRow`.

    Raises:
        ValueError: its digests are cut off.
    """
    saved_in = bytes(row.saved_in)
    if len(saved_in) % _DIGEST_AND_ROUND.size:
        raise ValueError(f"the stored editor copy of the mask {row.mask_id!r} is cut off: {len(saved_in)} bytes")
    return EditorCopy(row.present, row.delivered_in, dict(_DIGEST_AND_ROUND.iter_unpack(saved_in)))


def editor_to_json(editor: EditorRecord) -> str:
    """An `EditorRecord` without its copies."""
    echoed = {label: sorted(prompt_ids) for label, prompt_ids in editor.echoed.items()}
    answers = {"answered_in": dict(editor.answered_in), "answered_at_s": editor.answered_at_s}
    return json.dumps({"echoed": echoed, **answers})


def editor_from_json(text: str, copies: Iterable[tuple[str, EditorCopy]] = ()) -> EditorRecord:
    """The reverse of `editor_to_json`; ``copies`` come from their own table.

    Raises:
        ValueError: the text is damaged.
        KeyError: a field is missing.
    """
    fields = json.loads(text)
    echoed = {label: frozenset(prompt_ids) for label, prompt_ids in fields["echoed"].items()}
    return EditorRecord(echoed, fields["answered_in"], fields["answered_at_s"], dict(copies))
