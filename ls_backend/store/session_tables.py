"""What hangs on a session, table by table: read whole, written by what differs between two records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Table, delete, insert, tuple_

from ls_backend.store import codec
from ls_backend.store.records import SessionRecord
from ls_backend.store.tables import (
    Base,
    BeforePromptsRow,
    EditorCopyRow,
    MaskRow,
    ObjectRow,
    PromptRow,
    RoundRow,
)

Key: TypeAlias = tuple[Any, ...]
"""The primary key of a row, without the session's id."""
CHUNK = 200
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class SessionTable:
    """One table of a session.

    Attributes:
        rows: the table.
        key: the columns of its primary key, without the session's id.
        entries: what a record has for the table, by key.
        values: the row of an entry.
    """

    rows: type[Base]
    key: tuple[str, ...]
    entries: Callable[[SessionRecord], Mapping[Key, Any]]
    values: Callable[[Key, Any], codec.Values]

    @property
    def table(self) -> Table:
        """The table in the words of SQLAlchemy's core."""
        return Base.metadata.tables[self.rows.__tablename__]

    def write(self, connection: Connection, session_id: int, new: Mapping[Key, Any], old: Mapping[Key, Any]) -> None:
        """Replace what differs. A mask that did not change is the same object, so most comparisons are quick."""
        changed = {key: entry for key, entry in new.items() if key not in old or not _same(entry, old[key])}
        gone = [key for key in old if key not in new or key in changed]
        columns = self.table.c
        of_session = columns.session_id == session_id
        for keys in _chunks(gone):
            connection.execute(delete(self.table).where(of_session, tuple_(*(columns[n] for n in self.key)).in_(keys)))
        # Many rows in one statement: PostgreSQL's driver takes a millisecond for each statement.
        for some in _chunks(list(changed.items())):
            values = [{"session_id": session_id, **self.values(key, entry)} for key, entry in some]
            connection.execute(insert(self.table).values(values))


def _chunks(entries: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    for start in range(0, len(entries), CHUNK):
        yield entries[start : start + CHUNK]


def _same(first: object, second: object) -> bool:
    return first is second or first == second


def _objects(record: SessionRecord) -> Mapping[Key, codec.Values]:
    return {
        (object_id,): codec.object_values(object_id, label, record.objects.get(object_id))
        for label, object_id in record.labels.items()
    }


def _masks(record: SessionRecord) -> Mapping[Key, Any]:
    return {(object_id, index): known for object_id, o in record.objects.items() for index, known in o.masks.items()}


def _before_prompts(record: SessionRecord) -> Mapping[Key, Any]:
    return {
        (object_id, index): mask
        for object_id, o in record.objects.items()
        for index, mask in o.masks_before_prompts.items()
    }


SESSION_TABLES: tuple[SessionTable, ...] = (
    SessionTable(ObjectRow, ("object_id",), _objects, lambda _, values: values),
    SessionTable(
        PromptRow,
        ("position",),
        lambda record: {(position,): prompt for position, prompt in enumerate(record.prompts)},
        lambda key, prompt: codec.prompt_values(key[0], prompt),
    ),
    SessionTable(
        RoundRow,
        ("number",),
        lambda record: {(entry.number,): entry for entry in record.rounds},
        lambda _, entry: codec.round_values(entry),
    ),
    SessionTable(
        MaskRow, ("object_id", "frame_index"), _masks, lambda key, known: codec.mask_values(key[0], key[1], known)
    ),
    SessionTable(
        BeforePromptsRow,
        ("object_id", "frame_index"),
        _before_prompts,
        lambda key, mask: codec.before_values(key[0], key[1], mask),
    ),
    SessionTable(
        EditorCopyRow,
        ("mask_id",),
        lambda record: {(mask_id,): copy for mask_id, copy in record.editor.copies.items()},
        lambda key, copy: codec.editor_copy_values(key[0], copy),
    ),
)
