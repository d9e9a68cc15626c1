"""Sessions are stored in both kinds of database and read again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update

from ls_backend.store.database import FILE_NAME, Database, StoreError, StoreVersionError, store_address
from ls_backend.store.records import EditorCopy, RoundRecord, SessionRecord
from ls_backend.store.session_store import SessionNotFoundError, SessionStore, SessionSummary, SessionTooLargeError
from ls_backend.store.tables import Base, ObjectRow, SchemaRow
from pipeline.session.object_state import ObjectState
from tests.ls_backend.store.session_records import frame_mask, object_state, session_record

LIMIT_MIB = 64


@pytest.fixture
def store(database: Database) -> SessionStore:
    return SessionStore(database, LIMIT_MIB)


def later(record: SessionRecord) -> SessionRecord:
    """The session some seconds later: two new masks, one changed, one deleted, one prompt less, one object more."""
    before = record.objects[1]
    masks = {**before.masks, 1: frame_mask(900), 8: frame_mask(901), 9: frame_mask(902)}
    del masks[4]
    changed = replace(before, masks=masks, stale={5}, masks_before_prompts={3: frame_mask(903).raw}, round_index=4)
    return replace(
        record,
        used_at_s=3000.0,
        newest_round=3,
        prompts=record.prompts[1:],
        editor=replace(record.editor, copies={**record.editor.copies, "obj-00000": EditorCopy(False, 3)}),
        objects={1: changed, 2: object_state(2)},
        rounds=(*record.rounds[:1], replace(record.rounds[1], finished=True), RoundRecord(3, 2999.0, (1, 2), ("p1",))),
    )


def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    with database.transaction() as connection:
        tables = [table for table in Base.metadata.sorted_tables if table.name != SchemaRow.__tablename__]
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def test_a_session_comes_back_equal(store: SessionStore) -> None:
    record = session_record()
    session_id = store.write(None, record, None)
    assert store.load(session_id) == record
    (summary,) = store.summaries("5", "7", record.urls_digest)
    assert summary == SessionSummary(session_id, replace(record.editor, copies={}), frozenset({"b1", "p1"}))


def test_another_process_reads_it(store: SessionStore) -> None:
    session_id = store.write(None, session_record(), None)
    other = SessionStore(Database(store.database._address), LIMIT_MIB)
    assert other.load(session_id) == session_record()
    other.close()


def test_a_changed_session_comes_back_changed(store: SessionStore) -> None:
    first, second = session_record(), later(session_record())
    session_id = store.write(None, first, None)
    assert store.write(session_id, second, first) == session_id
    assert store.load(session_id) == second
    assert store.write(session_id, first, second) == session_id
    assert store.load(session_id) == first


def test_only_what_changed_is_written(store: SessionStore) -> None:
    """Unchanged masks are the same Python objects and are not written."""
    first = session_record()
    session_id = store.write(None, first, None)
    statements: list[str] = []
    assert store.database._engine is not None
    event.listen(
        store.database._engine,
        "before_cursor_execute",
        lambda _c, _cursor, sql, *_: statements.append(sql.split("\n")[0]),
    )
    one_more = {**first.objects[1].masks, 9: frame_mask(9)}
    store.write(session_id, replace(first, objects={1: replace(first.objects[1], masks=one_more)}), first)
    written = [sql for sql in statements if sql.startswith(("INSERT", "DELETE", "UPDATE"))]
    assert [sql.split()[1 if sql.startswith("UPDATE") else 2] for sql in written] == ["ivos_sessions", "ivos_masks"]


def test_sessions_are_found_by_task_and_frames_latest_first(store: SessionStore) -> None:
    ids = {used: store.write(None, session_record(used_at_s=used), None) for used in (10.0, 30.0, 20.0)}
    store.write(None, session_record(task="8"), None)
    store.write(None, session_record(urls_digest="other", used_at_s=5.0), None)
    assert [summary.session_id for summary in store.summaries("5", "7", session_record().urls_digest)] == [
        ids[30.0], ids[20.0], ids[10.0],
    ]  # fmt: skip
    assert len(store.summaries("5", "7")) == 4
    assert store.summaries("6", "7") == []


def test_a_deleted_session_is_reported(store: SessionStore) -> None:
    record = session_record()
    session_id = store.write(None, record, None)
    store.write(None, replace(record, used_at_s=9e9), None)
    assert store.load(session_id + 100) is None
    with pytest.raises(SessionNotFoundError):
        store.write(session_id + 100, record, record)


def test_a_damaged_session_is_skipped_and_the_others_are_read(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, sound = store.write(None, session_record(), None), store.write(None, session_record(), None)
    with store.database.transaction() as connection:
        connection.execute(update(ObjectRow).where(ObjectRow.session_id == damaged).values(state='{"round_index": 1'))
    assert store.load(damaged) is None
    assert f"stored session {damaged} is damaged" in caplog.text
    assert store.load(sound) == session_record()


def large(task: str, used_at_s: float) -> SessionRecord:
    """About 3 MiB of masks."""
    masks = {1: object_state(n_frames=600, soft_bytes=5000)}
    return session_record(task, used_at_s, objects=masks)


def test_the_least_recently_used_sessions_are_deleted_first(database: Database) -> None:
    store = SessionStore(database, limit_mib=16)
    ids: dict[str, int] = {}
    for number in range(8):
        ids[str(number)] = store.write(None, large(str(number), float(number)), None)
        deleted = store.trim(keep=ids[str(number)])
        ids = {task: session_id for task, session_id in ids.items() if session_id not in deleted}
    assert "7" in ids
    assert "0" not in ids
    assert sorted(ids, key=int) == [str(number) for number in range(8 - len(ids), 8)], "the oldest are deleted"
    assert [bool(store.summaries("5", str(number))) for number in range(8)] == [
        str(number) in ids for number in range(8)
    ]
    assert rows(database)["ivos_sessions"] == len(ids)
    assert rows(database)["ivos_masks"] == 600 * len(ids), "masks are deleted with their session"


def test_the_file_keeps_its_limit(tmp_path: Path) -> None:
    database = Database(store_address("", tmp_path))
    store = SessionStore(database, limit_mib=16)
    for number in range(12):
        store.trim(keep=store.write(None, large(str(number), float(number)), None))
    store.close()
    on_disk_mib = sum(file.stat().st_size for file in tmp_path.iterdir()) / 2**20
    assert 8 < on_disk_mib <= 16


def test_a_session_larger_than_the_store_is_refused(database: Database) -> None:
    store = SessionStore(database, limit_mib=2)
    with pytest.raises(SessionTooLargeError, match="3 MiB"):
        store.write(None, large("7", 1.0), None)
    assert rows(database)["ivos_sessions"] == 0


def test_a_newer_schema_version_is_refused(database: Database) -> None:
    database.open()
    with database.transaction() as connection:
        connection.execute(update(SchemaRow).values(version=99))
    database.close()
    for use in (database.open, lambda: SessionStore(database, LIMIT_MIB).load(1)):
        with pytest.raises(
            StoreVersionError, match=r"has version 99, but this backend knows versions up to 2: .*newer"
        ):
            use()


def test_sessions_of_schema_version_1_are_upgraded(database: Database) -> None:
    record = session_record()
    without_new_columns = {
        1: replace(record.objects[1], masks={0: replace(frame_mask(1), uncertainty=None, agreement=None)})
    }
    record = replace(record, objects=without_new_columns)
    session_id = SessionStore(database, LIMIT_MIB).write(None, record, None)
    with database.transaction() as connection:
        for column in ("uncertainty", "agreement"):
            connection.exec_driver_sql(f"ALTER TABLE ivos_masks DROP COLUMN {column}")
        connection.execute(update(SchemaRow).values(version=1))
    database.close()
    store = SessionStore(database, LIMIT_MIB)
    assert store.load(session_id) == record
    newer = replace(record, objects={1: replace(record.objects[1], masks={0: frame_mask(1)})})
    store.write(session_id, newer, record)
    assert store.load(session_id) == newer
    with database.transaction() as connection:
        assert connection.scalar(select(SchemaRow.version)) == 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[SessionStore]:
    store = SessionStore(Database(store_address("", tmp_path)), LIMIT_MIB)
    yield store
    store.close()


def damage(file: Path, how: str) -> None:
    """Make a file that SQLite cannot read."""
    if how == "folder":
        file.mkdir()
    elif how == "foreign tables":
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE ivos_schema (version INTEGER)")
        connection.execute("CREATE TABLE ivos_sessions (something TEXT)")
        connection.execute("INSERT INTO ivos_schema VALUES (1)")
        connection.commit()
        connection.close()
    else:
        file.write_bytes(b"no database" * 1000)


@pytest.mark.parametrize("how", ["text", "folder", "foreign tables"])
def test_an_unreadable_file_is_renamed(
    file_store: SessionStore, file: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(file, how)
    file_store.database.open()
    assert "moved to" in caplog.text
    assert file.with_name(f"{FILE_NAME}.damaged").exists()
    session_id = file_store.write(None, session_record(), None)
    assert file_store.load(session_id) == session_record()


def test_a_file_damaged_while_in_use_is_renamed(file_store: SessionStore, file: Path) -> None:
    session_id = file_store.write(None, large("7", 1.0), None)
    file_store.close()
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half:] = b"\xff" * (len(content) - half)
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="malformed"):
        file_store.load(session_id)
    assert file_store.database.reset_count == 1
    session_id = file_store.write(None, session_record(), None)
    assert file_store.load(session_id) == session_record()


def test_a_store_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cache"):
        Database(store_address("", tmp_path / "cache")).open()


def test_an_unreachable_server_is_not_tried_again_at_once() -> None:
    database = Database(store_address("postgresql://ivos:secret@127.0.0.1:19199/postgres", Path()))
    with pytest.raises(StoreError, match="19199") as first:
        database.open()
    assert "secret" not in str(first.value)
    with pytest.raises(StoreError, match="tried again in"):
        database.open()


def test_an_object_without_a_round_has_no_state(store: SessionStore) -> None:
    empty: dict[int, ObjectState] = {}
    record = session_record(objects=empty)
    assert store.load(store.write(None, record, None)) == record
