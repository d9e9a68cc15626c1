"""Which session a request belongs to: an open one, a kept one, or a new one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.request_context import Evidence
from ls_backend.sessions.repository import SessionKeeper
from ls_backend.sessions.task_session import SessionKey, TaskSession

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
