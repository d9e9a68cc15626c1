"""Sessions beyond the process: kept in the store while they are open, and found there when they are asked for again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.prompts import LabelPrompt, in_order, read_prompts
from ls_backend.protocol.request_context import Evidence
from ls_backend.sessions.editor_state import EditorState
from ls_backend.sessions.label_masks import LabelMask, label_masks
from ls_backend.sessions.saver import SessionSaver
from ls_backend.sessions.task_session import SessionKey, TaskSession
from ls_backend.settings import Settings
from ls_backend.store.database import Database, StoreError, StoreVersionError, store_address
from ls_backend.store.records import SessionRecord, urls_digest
from ls_backend.store.session_store import SessionStore, SessionSummary

logger = logging.getLogger(__name__)
WAIT_S = 5.0
"""How long is waited for a session that was dropped a moment ago to be written, and for the last changes at the end."""


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


class StoredTask:
    """What the store knows of one annotation, to be looked at without opening its session."""

    def __init__(self, record: SessionRecord, prompts: tuple[LabelPrompt, ...]) -> None:
        self.model_version = record.model_version
        self._labels = {object_id: label for label, object_id in record.labels.items()}
        self._prompts = prompts
        self._masks = {mask.region_id: mask for mask in label_masks(record)}
        self._editor = EditorState.resumed(record.editor)

    def labels(self) -> Mapping[int, str]:
        """Label by object id."""
        return self._labels

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label."""
        return in_order([prompt for prompt in self._prompts if prompt.label == label])

    def all_masks(self) -> tuple[LabelMask, ...]:
        """Every mask of the labels that have prompts, by label and frame."""
        prompted = {prompt.label for prompt in self._prompts}
        return tuple(mask for mask in self._masks.values() if mask.label in prompted)

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """See `TaskSession.newer_mask`."""
        return self._masks.get(mask_id) if self._editor.is_outdated(mask_id, digest) else None


class SessionKeeper:
    """Keeps sessions beyond the process and beyond the registry's bounds, in a store.

    Whatever goes wrong there, the work goes on.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._saver = SessionSaver(store)

    @classmethod
    def of_settings(cls, settings: Settings) -> SessionKeeper:
        """Open the store that the settings name.

        Raises:
            StoreVersionError: a newer version of the backend wrote it.
        """
        return cls(SessionStore(open_database(settings), settings.store_limit_mib))

    def find(
        self,
        key: SessionKey,
        urls: tuple[str, ...],
        evidence: Evidence,
        config: LabelConfig,
        open_session: Callable[[], TaskSession],
    ) -> TaskSession | None:
        """The kept session that a request belongs to, resumed; None if there is none beside the open ones.

        Raises:
            FrameError: there is one, but not one of its frames can be read now.
        """
        for summary in self._summaries(key, urls_digest(urls)):
            shown = evidence.prompt_ids | evidence.sent_ids
            if shown.isdisjoint(summary.prompt_ids) and not EditorState.resumed(summary.editor).belongs_to(evidence):
                continue
            record = self._load(summary)
            if record is None:
                continue
            session = open_session()
            try:
                session.resume(record, read_prompts((prompt.raw for prompt in record.prompts), config).prompts)
            except ValueError as error:
                logger.warning("task %s: its stored session cannot be gone on with: %s", key[1], error)
                continue
            self._saver.add(key, session, summary.session_id, record)
            _log_resumed(key, session, record)
            return session
        return None

    def stored(self, key: SessionKey, config: LabelConfig) -> Iterator[StoredTask]:
        """What is kept of a task beside the open sessions, the latest used first."""
        for summary in self._summaries(key):
            record = self._load(summary)
            if record is not None:
                yield StoredTask(record, read_prompts((prompt.raw for prompt in record.prompts), config).prompts)

    def has(self, key: SessionKey) -> bool:
        """Whether anything is kept of a task beside the open sessions."""
        return bool(self._summaries(key))

    def opened(self, key: SessionKey, session: TaskSession) -> None:
        """From now on the session is kept."""
        if not self._saver.knows(session):
            self._saver.add(key, session)
        session.on_change = lambda soon: self._saver.changed(session, soon)

    def dropped(self, session: TaskSession) -> None:
        """The session is not open any more."""
        self._saver.drop(session)

    def flush(self) -> bool:
        """Write what waits now; returns whether all of it is written."""
        return self._saver.flush(WAIT_S)

    def close(self) -> None:
        """Write what waits, and close the store."""
        self._saver.close(WAIT_S)
        self._store.close()

    def _summaries(self, key: SessionKey, digest: str | None = None) -> list[SessionSummary]:
        self._saver.wait_for_dropped(key, WAIT_S)
        open_ids = self._saver.ids()
        try:
            return [summary for summary in self._store.summaries(*key, digest) if summary.session_id not in open_ids]
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
    n_masks = sum(len(saved.masks) for saved in record.objects.values())
    logger.info("task %s: goes on after round %d with %d masks", key[1], record.newest_round, n_masks)
    if record.model_version != session.model_version:
        logger.info(
            "task %s: its masks were made by %s and stay; from now on %s segments",
            *(key[1], record.model_version, session.model_version),
        )


_N_LOCKS = 64


class SessionRegistry:
    """Open sessions, one per annotation being made; beyond either bound the least recently used idle ones go.

    Dropping one loses no work: the keeper has it, and prompts come back with the annotator's next request.

    Args:
        max_sessions: how many are kept open.
        limit_mib: how much memory they may hold together.
        keeper: has those that are not open; None: they are opened anew.
    """

    def __init__(self, max_sessions: int, limit_mib: float, keeper: SessionKeeper | None = None) -> None:
        self._max_sessions = max_sessions
        self._limit_bytes = int(limit_mib * 2**20)
        self._keeper = keeper
        self._lock = threading.Lock()
        self._opening = [threading.Lock() for _ in range(_N_LOCKS)]
        self._by_use: list[tuple[SessionKey, TaskSession]] = []
        """Least recently used first."""

    def of_task(self, key: SessionKey) -> tuple[TaskSession, ...]:
        """All open sessions of a task, the most recently used one first."""
        with self._lock:
            return tuple(session for known, session in reversed(self._by_use) if known == key)

    def find_or_open(
        self,
        key: SessionKey,
        urls: tuple[str, ...],
        evidence: Evidence,
        open_session: Callable[[], TaskSession],
        config: LabelConfig | None = None,
    ) -> TaskSession:
        """The session a request belongs to; a new one where there is none or where the task's frames have changed.

        Kept sessions are looked at only where ``config`` is given, which reads their prompts.
        """
        session = self._find(key, urls, evidence)
        if session is not None:
            return session
        # One of a task at a time, or two requests of one annotation would open it twice. Other tasks do not wait.
        with self._opening[hash(key) % _N_LOCKS]:
            session = self._find(key, urls, evidence)
            if session is not None:
                return session
            if self._keeper is not None and config is not None:
                session = self._keeper.find(key, urls, evidence, config, open_session)
            if session is None:
                session = open_session()
            if self._keeper is not None:
                self._keeper.opened(key, session)
            with self._lock:
                self._by_use.append((key, session))
                dropped = self._drop_surplus()
        if self._keeper is not None:
            for gone in dropped:
                self._keeper.dropped(gone)
        return session

    def _find(self, key: SessionKey, urls: tuple[str, ...], evidence: Evidence) -> TaskSession | None:
        with self._lock:
            for entry in reversed(self._by_use):
                if entry[0] == key and entry[1].frames.urls == urls and entry[1].belongs_to(evidence):
                    self._by_use.remove(entry)
                    self._by_use.append(entry)
                    return entry[1]
            return None

    def _drop_surplus(self) -> list[TaskSession]:
        dropped = []
        held_bytes = sum(session.held_bytes for _, session in self._by_use)
        for entry in [entry for entry in self._by_use[:-1] if not entry[1].is_busy]:
            if len(self._by_use) <= self._max_sessions and held_bytes <= self._limit_bytes:
                break
            self._by_use.remove(entry)
            held_bytes -= entry[1].held_bytes
            dropped.append(entry[1])
        return dropped
