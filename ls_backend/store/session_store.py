"""Reading and writing sessions. A write takes two records and touches only what differs between them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ls_backend.store import codec
from ls_backend.store.database import Database, StoreError
from ls_backend.store.records import EditorRecord, PromptRecord, SessionRecord
from ls_backend.store.session_tables import SESSION_TABLES
from ls_backend.store.tables import (
    Base,
    BeforePromptsRow,
    EditorCopyRow,
    MaskRow,
    ObjectRow,
    PromptRow,
    RoundRow,
    SessionRow,
)
from pipeline.session.object_state import FrameMask
from pipeline.types import RunLengthMask

logger = logging.getLogger(__name__)
MIB = 2**20
RESERVE = 0.1
"""This share of the bound is left to the journal and to half-filled pages."""
ROW_BYTES = 100
"""What a row takes beside masks and texts."""


class SessionTooLargeError(Exception):
    """A single session is larger than the whole store may be."""


class SessionNotFoundError(StoreError):
    """The session is not in the store any more."""


@dataclass(frozen=True)
class SessionSummary:
    """What tells whether a stored session is the one that is looked for."""

    session_id: int
    editor: EditorRecord
    prompt_ids: frozenset[str]


class SessionStore:
    """The sessions in a database. Any thread may read; one thread writes.

    Args:
        database: where they are.
        limit_mib: how much they may take; the least recently used ones go first.
    """

    def __init__(self, database: Database, limit_mib: float) -> None:
        self.database = database
        self._limit_bytes = int(limit_mib * MIB * (1 - RESERVE))

    def summaries(self, project: str, task: str, urls_digest: str | None = None) -> list[SessionSummary]:
        """The sessions of a task, the latest used first; with ``urls_digest`` only those over these frames.

        Raises:
            StoreError: the store cannot be read now.
        """
        query = select(SessionRow.id, SessionRow.editor).where(SessionRow.project == project, SessionRow.task == task)
        if urls_digest is not None:
            query = query.where(SessionRow.urls_digest == urls_digest)
        with self.database.read_snapshot() as connection:
            rows = connection.execute(query.order_by(SessionRow.used_at_s.desc(), SessionRow.id.desc())).all()
            prompts = select(PromptRow.session_id, PromptRow.region_id)
            prompts = prompts.where(PromptRow.session_id.in_([row.id for row in rows]))
            prompt_ids: dict[int, set[str]] = {}
            for prompt in connection.execute(prompts):
                prompt_ids.setdefault(prompt.session_id, set()).add(prompt.region_id)
        return [summary for row in rows if (summary := _summary(row, prompt_ids.get(row.id, set()))) is not None]

    def load(self, session_id: int) -> SessionRecord | None:
        """Everything of one session; None where it is gone or damaged.

        Raises:
            StoreError: the store cannot be read now.
        """
        with self.database.read_snapshot() as connection:
            row = connection.execute(select(*_columns(SessionRow)).where(SessionRow.id == session_id)).one_or_none()
            if row is None:
                return None
            try:
                return _read(connection, row)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("stored session %d is damaged and not used: %r", session_id, error)
                return None

    def write(self, session_id: int | None, record: SessionRecord, since: SessionRecord | None) -> int:
        """Bring a stored session from ``since`` to ``record`` in one transaction; returns its id.

        Args:
            session_id: None to add the session.
            record: what it is now.
            since: what is stored; None if nothing is.

        Raises:
            SessionTooLargeError: it is larger than the store may be.
            SessionNotFoundError: it is not in the store any more.
            StoreError: the store cannot be written now.
        """
        entries = [table.entries(record) for table in SESSION_TABLES]
        values = _session_values(record, sum(map(len, entries)))
        if values["size_bytes"] > self._limit_bytes:
            raise SessionTooLargeError(f"{values['size_bytes'] / MIB:.0f} MiB")
        with self.database.transaction() as connection:
            if session_id is None or since is None:
                since = None
                session_id = _added(connection, values)
            elif connection.execute(update(SessionRow).where(SessionRow.id == session_id).values(values)).rowcount != 1:
                raise SessionNotFoundError(f"session {session_id} is not in {self.database.name} any more")
            for table, new in zip(SESSION_TABLES, entries, strict=True):
                table.write(connection, session_id, new, table.entries(since) if since else {})
        return session_id

    def trim(self, *, keep: int) -> list[int]:
        """Delete the least recently used sessions until the store keeps its bound; returns their ids.

        Args:
            keep: a session that stays.

        Raises:
            StoreError: the store cannot be written now.
        """
        gone: list[int] = []
        while (oldest := self._surplus(keep)) is not None:
            with self.database.transaction() as connection:
                connection.execute(delete(SessionRow).where(SessionRow.id == oldest))
            gone.append(oldest)
        if gone:
            self.database.shrink()
        return gone

    def _surplus(self, keep: int) -> int | None:
        """The session that has to go next, or None."""
        with self.database.read_snapshot() as connection:
            used_bytes = self.database.used_bytes(connection)
            if used_bytes is None:
                used_bytes = int(connection.scalar(select(func.sum(SessionRow.size_bytes))) or 0)
            if used_bytes <= self._limit_bytes:
                return None
            oldest = select(SessionRow.id).where(SessionRow.id != keep).order_by(SessionRow.used_at_s).limit(1)
            return connection.scalar(oldest)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()


def _columns(rows: type[Base]) -> list[Any]:
    return list(Base.metadata.tables[rows.__tablename__].c)


def _added(connection: Connection, values: codec.Values) -> int:
    key = connection.execute(insert(SessionRow).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _summary(row: Any, prompt_ids: Iterable[str]) -> SessionSummary | None:
    try:
        return SessionSummary(row.id, codec.editor_from_json(row.editor), frozenset(prompt_ids))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("stored session %d is damaged and not used: %r", row.id, error)
        return None


def _session_values(record: SessionRecord, n_rows: int) -> codec.Values:
    """A `SessionRow` on which ``n_rows`` rows of other tables hang."""
    editor = codec.editor_to_json(record.editor)
    masks_bytes = sum(known.held_bytes for o in record.objects.values() for known in o.masks.values())
    before_bytes = sum(len(mask.counts) for o in record.objects.values() for mask in o.masks_before_prompts.values())
    raw_bytes = sum(len(json.dumps(prompt.raw)) for prompt in record.prompts)
    return {
        "project": record.project,
        "task": record.task,
        "urls_digest": record.urls_digest,
        "model_version": record.model_version,
        "opened_at_s": record.opened_at_s,
        "used_at_s": record.used_at_s,
        "newest_round": record.newest_round,
        "size_bytes": masks_bytes + before_bytes + raw_bytes + len(editor) + n_rows * ROW_BYTES,
        "editor": editor,
    }


def _read(connection: Connection, row: Any) -> SessionRecord:
    """A record out of a `SessionRow` and what hangs on it."""

    def rows_of(rows: type[Base], *order: str) -> Sequence[Any]:
        columns = Base.metadata.tables[rows.__tablename__].c
        query = select(*columns).where(columns.session_id == row.id)
        return connection.execute(query.order_by(*(columns[name] for name in order))).all()

    known: dict[int, dict[int, FrameMask]] = {}
    for mask in rows_of(MaskRow, "object_id", "frame_index"):
        known.setdefault(mask.object_id, {})[mask.frame_index] = codec.read_mask(mask)
    before: dict[int, dict[int, RunLengthMask]] = {}
    for mask in rows_of(BeforePromptsRow, "object_id", "frame_index"):
        counts = RunLengthMask(mask.height_px, mask.width_px, bytes(mask.counts))
        before.setdefault(mask.object_id, {})[mask.frame_index] = counts
    labels = rows_of(ObjectRow, "object_id")
    objects = {
        o.object_id: codec.read_object(o.object_id, o.state, known.get(o.object_id, {}), before.get(o.object_id, {}))
        for o in labels
        if o.state is not None
    }
    return SessionRecord(
        row.project,
        row.task,
        row.urls_digest,
        row.model_version,
        row.opened_at_s,
        row.used_at_s,
        row.newest_round,
        {o.label: o.object_id for o in labels},
        tuple(PromptRecord(p.label, p.kind, p.region_id, json.loads(p.raw)) for p in rows_of(PromptRow, "position")),
        codec.editor_from_json(
            row.editor, [(copy.mask_id, codec.read_editor_copy(copy)) for copy in rows_of(EditorCopyRow)]
        ),
        objects,
        tuple(codec.read_round(entry) for entry in rows_of(RoundRow, "number")),
    )
