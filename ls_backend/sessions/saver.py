"""Writes sessions to the store in the background: what changed, once a second, and at once where a round ends."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from ls_backend.sessions.task_session import SessionKey, TaskSession
from ls_backend.store.database import StoreError
from ls_backend.store.records import SessionRecord
from ls_backend.store.session_store import SessionNotFoundError, SessionStore, SessionTooLargeError

logger = logging.getLogger(__name__)
BATCH_S = 1.0
"""What a round makes within this time is written together; as much is lost when the process is killed."""
RETRY_S = 5.0
"""How long to wait after an error before the store is used again."""
MAX_DROPPED = 16
"""How many closed sessions may wait to be written while the store cannot be used."""


@dataclass
class _Entry:
    """One session and what the store has of it."""

    key: SessionKey
    session_id: int | None = None
    stored: SessionRecord | None = None
    reset_count: int = 0
    is_open: bool = True
    is_too_large: bool = False


class SessionSaver:
    """Keeps no queue of masks: it notes which sessions changed, and compares them with what it wrote last.

    So it holds no more than one entry per open session, and `MAX_DROPPED` others. Thread-safe.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._entries: dict[TaskSession, _Entry] = {}
        self._changed: dict[TaskSession, None] = {}
        self._changes = threading.Condition()
        self._is_urgent = False
        self._is_closed = False
        self._n_changes = self._n_taken = self._n_written = 0
        self._failed_at_s: float | None = None
        self._thread = threading.Thread(target=self._work, name="session saver", daemon=True)
        self._thread.start()

    def add(
        self, key: SessionKey, session: TaskSession, session_id: int | None = None, stored: SessionRecord | None = None
    ) -> None:
        """Keep a session from now on; ``stored`` is what the store has of it under ``session_id``."""
        with self._changes:
            self._entries[session] = _Entry(key, session_id, stored, self._store.database.reset_count)

    def ids(self) -> frozenset[int]:
        """The sessions in the store that are among those kept here."""
        with self._changes:
            return frozenset(entry.session_id for entry in self._entries.values() if entry.session_id is not None)

    def knows(self, session: TaskSession) -> bool:
        """Whether a session is kept."""
        with self._changes:
            return session in self._entries

    def changed(self, session: TaskSession, soon: bool) -> None:
        """A session has something new; ``soon`` where it should not wait for more."""
        with self._changes:
            if session not in self._entries or self._is_closed:
                return
            self._note(session)
            self._is_urgent |= soon
            self._changes.notify_all()

    def drop(self, session: TaskSession) -> None:
        """A session is not open any more: it goes from here as soon as it is written."""
        with self._changes:
            entry = self._entries.get(session)
            if entry is None:
                return
            entry.is_open = False
            if session not in self._changed and self._n_written == self._n_taken:
                del self._entries[session]
                return
            self._note(session)
            self._is_urgent = True
            self._changes.notify_all()
            waiting = [dropped for dropped in self._changed if not self._entries[dropped].is_open]
            for surplus in waiting[:-MAX_DROPPED]:
                logger.warning("task %s: a session could not be stored in time and is dropped", entry.key[1])
                del self._entries[surplus], self._changed[surplus]

    def wait_for_dropped(self, key: SessionKey, timeout_s: float) -> None:
        """Wait until the sessions of a task that are not open any more are written."""
        with self._changes:
            self._changes.wait_for(
                lambda: (
                    self._failed_at_s is not None
                    or all(entry.is_open for entry in self._entries.values() if entry.key == key)
                ),
                timeout_s,
            )

    def flush(self, timeout_s: float) -> bool:
        """Write what waits now; returns whether all of it is written."""
        with self._changes:
            target, self._is_urgent = self._n_changes, True
            self._changes.notify_all()
            self._changes.wait_for(
                lambda: self._n_written >= target or self._failed_at_s is not None or self._is_closed, timeout_s
            )
            return self._n_written >= target and self._failed_at_s is None

    def close(self, timeout_s: float) -> None:
        """Write what waits, and stop."""
        if not self.flush(timeout_s):
            logger.warning("the latest changes of some sessions are not in the store")
        with self._changes:
            self._is_closed = True
            self._changes.notify_all()
        self._thread.join(timeout_s)

    def _note(self, session: TaskSession) -> None:
        self._changed[session] = None
        self._n_changes += 1

    def _work(self) -> None:
        while (batch := self._batch()) is not None:
            for session, entry in batch:
                self._save(session, entry)
            with self._changes:
                self._n_written = self._n_taken
                self._changes.notify_all()

    def _batch(self) -> list[tuple[TaskSession, _Entry]] | None:
        """Wait for changes, then for more of them unless they are urgent; None when closed."""
        with self._changes:
            self._changes.wait_for(lambda: bool(self._changed) or self._is_closed)
            if self._failed_at_s is not None:
                self._changes.wait_for(lambda: self._is_closed, RETRY_S)
            else:
                self._changes.wait_for(lambda: self._is_urgent or self._is_closed, BATCH_S)
            if self._is_closed:
                return None
            self._is_urgent, self._n_taken = False, self._n_changes
            batch = [(session, self._entries[session]) for session in self._changed]
            self._changed.clear()
            return batch

    def _save(self, session: TaskSession, entry: _Entry) -> None:
        try:
            self._write(session, entry)
        except SessionNotFoundError:
            entry.session_id = entry.stored = None
            self._retry(session)
        except StoreError as error:
            if self._failed_at_s is None:
                logger.error("sessions cannot be stored, and are kept in memory only until they can: %s", error)
            self._failed_at_s = time.monotonic()
            self._retry(session)
        except Exception:
            logger.exception("task %s: the session could not be stored", entry.key[1])
            self._forget_if_closed(session, entry)
        else:
            if self._failed_at_s is not None:
                logger.info("sessions are stored again")
            self._failed_at_s = None
            self._forget_if_closed(session, entry)

    def _write(self, session: TaskSession, entry: _Entry) -> None:
        if entry.reset_count != self._store.database.reset_count:
            entry.session_id = entry.stored = None
            entry.reset_count = self._store.database.reset_count
        if entry.is_too_large:
            return
        record = session.record(entry.key)
        if not record.prompts and entry.stored is None:
            return
        try:
            entry.session_id = self._store.write(entry.session_id, record, entry.stored)
        except SessionTooLargeError as error:
            entry.is_too_large = True
            logger.warning("task %s: a session of %s is too large for IVOS_STORE_LIMIT_MIB", entry.key[1], error)
            return
        entry.stored = record
        gone = set(self._store.trim(keep=entry.session_id))
        with self._changes:
            for other in self._entries.values():
                if other.session_id in gone:
                    other.session_id = other.stored = None

    def _retry(self, session: TaskSession) -> None:
        with self._changes:
            if session in self._entries:
                self._note(session)

    def _forget_if_closed(self, session: TaskSession, entry: _Entry) -> None:
        with self._changes:
            if not entry.is_open and session not in self._changed:
                self._entries.pop(session, None)
