"""The tables of the store. Everything but the version hangs on a session and goes with it."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
_ID = BigInteger().with_variant(Integer, "sqlite")  # Only INTEGER counts up by itself in SQLite.


class Base(DeclarativeBase):
    """All tables below. Their names begin with ``ivos_``, so that they may share a PostgreSQL database."""


class SchemaRow(Base):
    """One row: the version of the tables."""

    __tablename__ = "ivos_schema"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class SessionRow(Base):
    """One annotation being made. ``editor`` is the `EditorRecord` without its masks, as JSON."""

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
    """One label. ``state`` are the fields of its `ObjectState` that are neither masks nor id, as JSON; null before
    its first round. Frames that wait to be segmented are among them."""

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
    """One mask of one object: run lengths before and after other objects took pixels (null: the same), and soft."""

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
    """What is known of the editor's copy of a mask. ``saved_in`` are digests (16 bytes) and rounds (4), in turn."""

    __tablename__ = "ivos_mask_notes"
    session_id: Mapped[int] = _session_id()
    mask_id: Mapped[str] = mapped_column(Text, primary_key=True)
    present: Mapped[bool]
    delivered_in: Mapped[int]
    saved_in: Mapped[bytes] = mapped_column(LargeBinary)
