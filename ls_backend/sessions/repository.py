"""The sessions of all annotations: open ones in memory, the others in the store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.prompts import LabelPrompt, read_prompts
from ls_backend.protocol.regions import LabelMask
from ls_backend.protocol.request_context import RequestContext
from ls_backend.sessions.editor_state import EditorState
from ls_backend.sessions.prompts import PromptMemory
from ls_backend.sessions.saver import SessionSaver
from ls_backend.sessions.task_session import SessionKey, TaskSession, recorded_masks
from ls_backend.settings import Settings
from ls_backend.store.database import Database, StoreError, StoreVersionError, store_address
from ls_backend.store.records import SessionRecord, urls_digest
from ls_backend.store.session_store import SessionStore, SessionSummary

logger = logging.getLogger(__name__)
WAIT_S = 5.0
"""How long to wait until a session that was just closed is written, and for the last changes when the process ends."""
_N_LOCKS = 64


def open_database(settings: Settings) -> Database:
    """Open the store that the settings name; one that cannot be reached or written now is tried again later.

    Raises:
        StoreVersionError: a newer version of the backend wrote it.
    """
    database = Database(store_address(settings.store_url.get_secret_value(), settings.cache_dir))
    try:
        database.open()
    except StoreVersionError:
        raise
    except StoreError as error:
        logger.error("sessions cannot be stored, and are kept in memory only until they can: %s", error)
    return database


def require_known_store(settings: Settings) -> None:
    """Check before the server starts that it will be able to use the store.

    Raises:
        ValueError: a newer version of the backend wrote it.
    """
    try:
        open_database(settings).close()
    except StoreVersionError as error:
        raise ValueError(str(error)) from error


class AnnotationSession(Protocol):
    """What is known of one annotation, whether its session is open or stored."""

    @property
    def model_version(self) -> str:
        """Method and segmenter that made the masks."""

    def labels(self) -> tuple[str, ...]:
        """The labels that have or had prompts."""

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label. A hand-made mask comes after the prompts it replaces, before its corrections."""

    def all_masks(self) -> tuple[LabelMask, ...]:
        """The current masks of the labels that have prompts, by label and frame."""

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """The mask delivered after a version with this digest was saved; None if the saved one is not outdated."""


class StoredSession:
    """What the store knows of one annotation. Its session is not opened."""

    def __init__(self, record: SessionRecord, config: LabelConfig) -> None:
        self.model_version = record.model_version
        self._labels = tuple(record.labels)
        self._prompts = PromptMemory()
        self._prompts.resume(recorded_prompts(record, config))
        self._masks = {mask.region_id: mask for mask in recorded_masks(record)}
        self._editor = EditorState.resumed(record.editor)

    def labels(self) -> tuple[str, ...]:
        """See `AnnotationSession.labels`."""
        return self._labels

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """See `AnnotationSession.prompts`."""
        return self._prompts.of(label)

    def all_masks(self) -> tuple[LabelMask, ...]:
        """See `AnnotationSession.all_masks`."""
        prompted = {prompt.label for prompt in self._prompts}
        return tuple(mask for mask in self._masks.values() if mask.label in prompted)

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """See `AnnotationSession.newer_mask`."""
        return self._masks.get(mask_id) if self._editor.is_outdated(mask_id, digest) else None


def recorded_prompts(record: SessionRecord, config: LabelConfig) -> tuple[LabelPrompt, ...]:
    """The prompts of a record; those that the config has no label or control for any more are left out."""
    return read_prompts((prompt.raw for prompt in record.prompts), config).prompts


class SessionRepository:
    """Finds the session that a request belongs to: an open one, a stored one, or a new one. Thread-safe.

    There is one session per annotation being made. Beyond either bound, the least recently used idle sessions are
    closed. That loses no work: the store has them, and their prompts come with the annotator's next request. Whatever
    goes wrong in the store, annotators can continue.

    Args:
        store: where sessions are stored; closed with this object.
        max_sessions: how many are kept open.
        limit_mib: how much memory they may hold together.
    """

    def __init__(self, store: SessionStore, max_sessions: int, limit_mib: float) -> None:
        self._store = store
        self._saver = SessionSaver(store)
        self._max_sessions = max_sessions
        self._limit_bytes = int(limit_mib * 2**20)
        self._lock = threading.Lock()
        self._opening = [threading.Lock() for _ in range(_N_LOCKS)]
        self._by_use: list[tuple[SessionKey, TaskSession]] = []
        """The open sessions, the least recently used first."""

    @classmethod
    def of_settings(cls, settings: Settings) -> SessionRepository:
        """Open the store that the settings name.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
        """
        store = SessionStore(open_database(settings), settings.store_limit_mib)
        return cls(store, settings.max_sessions, settings.session_ram_mib)

    def open_sessions(self, key: SessionKey) -> tuple[TaskSession, ...]:
        """All open sessions of a task, the most recently used one first."""
        with self._lock:
            return tuple(session for known, session in reversed(self._by_use) if known == key)

    def all_sessions(self, key: SessionKey, config: LabelConfig) -> Iterator[AnnotationSession]:
        """The open sessions of a task, then its stored ones, each the most recently used first."""
        yield from self.open_sessions(key)
        for summary in self._summaries(key):
            record = self._load(summary)
            if record is not None:
                yield StoredSession(record, config)

    def knows(self, key: SessionKey) -> bool:
        """Whether a task has a session, open or stored."""
        return bool(self.open_sessions(key) or self._summaries(key))

    def find_or_open(
        self,
        key: SessionKey,
        urls: tuple[str, ...],
        context: RequestContext,
        open_session: Callable[[], TaskSession],
        config: LabelConfig,
    ) -> TaskSession:
        """The session a request belongs to; a new one if there is none or if the task's frames have changed.

        Args:
            key: project and task.
            urls: the addresses of the task's frames.
            context: the request.
            open_session: makes a session that knows no prompts.
            config: the project's labelling config; it reads the prompts of a stored session.

        Raises:
            FrameError: there is a stored session, but not one of its frames can be read now.
        """
        session = self._find_open(key, urls, context)
        if session is not None:
            return session
        # One of a task at a time, or two requests of one annotation would open it twice. Other tasks do not wait.
        with self._opening[hash(key) % _N_LOCKS]:
            session = self._find_open(key, urls, context)
            if session is not None:
                return session
            session = self._find_stored(key, urls, context, open_session, config)
            if session is None:
                session = open_session()
                self._saver.add(key, session)
            session.on_change = partial(self._saver.changed, session)
            with self._lock:
                self._by_use.append((key, session))
                closed = self._close_surplus()
        for surplus in closed:
            self._saver.drop(surplus)
        return session

    def _find_open(self, key: SessionKey, urls: tuple[str, ...], context: RequestContext) -> TaskSession | None:
        with self._lock:
            for entry in reversed(self._by_use):
                if entry[0] == key and entry[1].frames.urls == urls and entry[1].belongs_to(context):
                    self._by_use.remove(entry)
                    self._by_use.append(entry)
                    return entry[1]
            return None

    def _find_stored(
        self,
        key: SessionKey,
        urls: tuple[str, ...],
        context: RequestContext,
        open_session: Callable[[], TaskSession],
        config: LabelConfig,
    ) -> TaskSession | None:
        for summary in self._summaries(key, urls_digest(urls)):
            is_shown = not context.shown_ids.isdisjoint(summary.prompt_ids)
            if not is_shown and not EditorState.resumed(summary.editor).has_sent(context):
                continue
            record = self._load(summary)
            if record is None:
                continue
            session = open_session()
            try:
                session.resume(record, recorded_prompts(record, config))
            except ValueError as error:
                logger.warning("task %s: its stored session cannot be continued: %s", key[1], error)
                continue
            self._saver.add(key, session, summary.session_id, record)
            _log_resumed(key, session, record)
            return session
        return None

    def _close_surplus(self) -> list[TaskSession]:
        closed = []
        held_bytes = sum(session.held_bytes for _, session in self._by_use)
        for entry in [entry for entry in self._by_use[:-1] if not entry[1].is_busy]:
            if len(self._by_use) <= self._max_sessions and held_bytes <= self._limit_bytes:
                break
            self._by_use.remove(entry)
            held_bytes -= entry[1].held_bytes
            closed.append(entry[1])
        return closed

    def flush(self) -> bool:
        """Write what waits to be written; returns whether all of it is written."""
        return self._saver.flush(WAIT_S)

    def close(self) -> None:
        """Write what waits to be written, and close the store."""
        self._saver.close(WAIT_S)
        self._store.close()

    def _summaries(self, key: SessionKey, digest: str | None = None) -> list[SessionSummary]:
        """The stored sessions of a task that are not open."""
        self._saver.wait_for_dropped(key, WAIT_S)
        open_ids = self._saver.ids()
        try:
            return [found for found in self._store.summaries(*key, digest) if found.session_id not in open_ids]
        except StoreError as error:
            logger.warning("task %s: stored sessions cannot be looked at: %s", key[1], error)
            return []

    def _load(self, summary: SessionSummary) -> SessionRecord | None:
        try:
            return self._store.load(summary.session_id)
        except StoreError as error:
            logger.warning("a stored session cannot be read: %s", error)
            return None


def _log_resumed(key: SessionKey, session: TaskSession, record: SessionRecord) -> None:
    n_masks = sum(len(state.masks) for state in record.objects.values())
    logger.info("task %s: continues after round %d with %d masks", key[1], record.newest_round, n_masks)
    if record.model_version != session.model_version:
        logger.info(
            "task %s: its masks were made by %s and stay; from now on %s segments",
            *(key[1], record.model_version, session.model_version),
        )
