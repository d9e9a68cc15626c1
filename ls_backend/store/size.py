"""How large a session is on disk, for the benchmark."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.session.session import Session

STORE_LIMIT_MIB = 4096


def stored_bytes(session: Session) -> int:
    """How large a store with nothing but this session is on disk, in bytes."""
    from ls_backend.store.database import Database, store_address
    from ls_backend.store.records import EditorRecord, SessionRecord
    from ls_backend.store.session_store import SessionStore

    saved = session.saved()
    record = SessionRecord(
        project="1",
        task="1",
        urls_digest="",
        model_version="",
        opened_at_s=0.0,
        used_at_s=0.0,
        newest_round=1,
        labels={f"object {object_id}": object_id for object_id in saved},
        prompts=(),
        editor=EditorRecord(),
        objects=saved,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = SessionStore(Database(store_address("", Path(folder))), STORE_LIMIT_MIB)
        try:
            store.write(None, record, None)
        finally:
            store.close()
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
