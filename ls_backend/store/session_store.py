"""Reading and writing sessions. A write compares two records and writes only what differs between them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Table, delete, func, insert, select, tuple_, update

from ls_backend.store import tables
from ls_backend.store.database import Database, StoreError
from ls_backend.store.records import EditorRecord, PromptRecord, SessionRecord
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
"""This share of the limit is left for the journal and for half-filled pages."""
ROW_BYTES = 100
"""What a row takes besides its masks and texts."""
ROWS_PER_STATEMENT = 200
"""PostgreSQL's driver takes a millisecond per statement, so one statement writes many rows."""

Key: TypeAlias = tuple[Any, ...]
"""The primary key of a row, without the session's id."""
_Entry = TypeVar("_Entry")


class SessionTooLargeError(Exception):
    """A single session is larger than the whole store may be."""


class SessionNotFoundError(StoreError):
    """The session is not in the store any more."""


@dataclass(frozen=True)
class SessionSummary:
    """Enough of a stored session to tell whether a request belongs to it."""

    session_id: int
    editor: EditorRecord
    prompt_ids: frozenset[str]


class SessionStore:
    """The sessions in a database. Any thread may read; one thread writes.

    Args:
        database: where they are.
        limit_mib: how much space they may take; the least recently used ones are deleted first.
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
        return [summary for row in rows if (summary := _read_summary(row, prompt_ids.get(row.id, set()))) is not None]

    def load(self, session_id: int) -> SessionRecord | None:
        """One whole session; None if it was deleted or is damaged.

        Raises:
            StoreError: the store cannot be read now.
        """
        with self.database.read_snapshot() as connection:
            row = connection.execute(select(_table(SessionRow)).where(SessionRow.id == session_id)).one_or_none()
            if row is None:
                return None
            try:
                return _read_session(connection, row)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("stored session %d is damaged and not used: %r", session_id, error)
                return None

    def write(self, session_id: int | None, record: SessionRecord, stored: SessionRecord | None) -> int:
        """Update a stored session from ``stored`` to ``record`` in one transaction; returns its id.

        Args:
            session_id: None to add the session.
            record: the session now.
            stored: what the store has of it; None if nothing.

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
            if session_id is None or stored is None:
                stored = None
                session_id = _insert_session(connection, values)
            elif connection.execute(update(SessionRow).where(SessionRow.id == session_id).values(values)).rowcount != 1:
                raise SessionNotFoundError(f"session {session_id} is not in {self.database.name} any more")
            for table, new in zip(SESSION_TABLES, entries, strict=True):
                table.write(connection, session_id, new, table.entries(stored) if stored else {})
        return session_id

    def trim(self, *, keep: int) -> list[int]:
        """Delete the least recently used sessions until the store keeps its limit; returns their ids.

        Args:
            keep: a session that is not deleted.

        Raises:
            StoreError: the store cannot be written now.
        """
        deleted: list[int] = []
        while (oldest := self._next_to_delete(keep)) is not None:
            with self.database.transaction() as connection:
                connection.execute(delete(SessionRow).where(SessionRow.id == oldest))
            deleted.append(oldest)
        if deleted:
            self.database.shrink()
        return deleted

    def _next_to_delete(self, keep: int) -> int | None:
        """The session to delete next, or None if the store keeps its limit."""
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


def _insert_session(connection: Connection, values: tables.RowValues) -> int:
    key = connection.execute(insert(SessionRow).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _read_summary(row: Any, prompt_ids: Iterable[str]) -> SessionSummary | None:
    try:
        return SessionSummary(row.id, tables.editor_from_json(row.editor), frozenset(prompt_ids))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("stored session %d is damaged and not used: %r", row.id, error)
        return None


def _session_values(record: SessionRecord, n_rows: int) -> tables.RowValues:
    """The `SessionRow` of a record that has ``n_rows`` rows in other tables."""
    editor = tables.editor_to_json(record.editor)
    masks_bytes = sum(mask.held_bytes for o in record.objects.values() for mask in o.masks.values())
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


def _read_session(connection: Connection, row: Any) -> SessionRecord:
    """The record of a `SessionRow` and its rows in other tables."""

    def rows_of(rows: type[Base], *order: str) -> Sequence[Any]:
        table = _table(rows)
        query = select(table).where(table.c.session_id == row.id)
        return connection.execute(query.order_by(*(table.c[name] for name in order))).all()

    masks: dict[int, dict[int, FrameMask]] = {}
    for mask in rows_of(MaskRow, "object_id", "frame_index"):
        masks.setdefault(mask.object_id, {})[mask.frame_index] = tables.mask_from_row(mask)
    before: dict[int, dict[int, RunLengthMask]] = {}
    for mask in rows_of(BeforePromptsRow, "object_id", "frame_index"):
        counts = RunLengthMask(mask.height_px, mask.width_px, bytes(mask.counts))
        before.setdefault(mask.object_id, {})[mask.frame_index] = counts
    labels = rows_of(ObjectRow, "object_id")
    objects = {
        o.object_id: tables.object_from_row(
            o.object_id, o.state, masks.get(o.object_id, {}), before.get(o.object_id, {})
        )
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
        tables.editor_from_json(
            row.editor, [(copy.mask_id, tables.editor_copy_from_row(copy)) for copy in rows_of(EditorCopyRow)]
        ),
        objects,
        tuple(tables.round_from_row(entry) for entry in rows_of(RoundRow, "number")),
    )


@dataclass(frozen=True)
class SessionTable:
    """One table of a session's rows.

    Attributes:
        rows: the table.
        entries: what a record has for the table, by primary key without the session's id.
        to_row: the columns of an entry.
    """

    rows: type[Base]
    entries: Callable[[SessionRecord], Mapping[Key, Any]]
    to_row: Callable[[Key, Any], tables.RowValues]

    def write(self, connection: Connection, session_id: int, new: Mapping[Key, Any], old: Mapping[Key, Any]) -> None:
        """Write what differs. A mask that did not change is the same object, so most comparisons are quick."""
        changed = {key: entry for key, entry in new.items() if key not in old or not _same(entry, old[key])}
        deleted = [key for key in old if key not in new or key in changed]
        table = _table(self.rows)
        key_columns = tuple_(*(column for column in table.primary_key if column.name != "session_id"))
        for keys in _batches(deleted):
            connection.execute(delete(table).where(table.c.session_id == session_id, key_columns.in_(keys)))
        for entries in _batches(list(changed.items())):
            values = [{"session_id": session_id, **self.to_row(key, entry)} for key, entry in entries]
            connection.execute(insert(table).values(values))


def _table(rows: type[Base]) -> Table:
    return Base.metadata.tables[rows.__tablename__]


def _batches(entries: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    for start in range(0, len(entries), ROWS_PER_STATEMENT):
        yield entries[start : start + ROWS_PER_STATEMENT]


def _same(first: object, second: object) -> bool:
    return first is second or first == second


def _objects(record: SessionRecord) -> Mapping[Key, tables.RowValues]:
    return {
        (object_id,): tables.object_row(object_id, label, record.objects.get(object_id))
        for label, object_id in record.labels.items()
    }


def _masks(record: SessionRecord) -> Mapping[Key, Any]:
    return {(object_id, index): mask for object_id, o in record.objects.items() for index, mask in o.masks.items()}


def _masks_before_prompts(record: SessionRecord) -> Mapping[Key, Any]:
    return {
        (object_id, index): mask
        for object_id, o in record.objects.items()
        for index, mask in o.masks_before_prompts.items()
    }


SESSION_TABLES = (
    SessionTable(ObjectRow, _objects, lambda _, row: row),
    SessionTable(
        PromptRow,
        lambda record: {(position,): prompt for position, prompt in enumerate(record.prompts)},
        lambda key, prompt: tables.prompt_row(key[0], prompt),
    ),
    SessionTable(
        RoundRow,
        lambda record: {(entry.number,): entry for entry in record.rounds},
        lambda _, entry: tables.round_row(entry),
    ),
    SessionTable(MaskRow, _masks, lambda key, mask: tables.mask_row(key[0], key[1], mask)),
    SessionTable(
        BeforePromptsRow, _masks_before_prompts, lambda key, mask: tables.mask_before_prompts_row(key[0], key[1], mask)
    ),
    SessionTable(
        EditorCopyRow,
        lambda record: {(mask_id,): copy for mask_id, copy in record.editor.copies.items()},
        lambda key, copy: tables.editor_copy_row(key[0], copy),
    ),
)
