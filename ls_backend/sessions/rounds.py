"""The rounds of one session: their numbers, and what is remembered of the latest ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from ls_backend.sessions.jobs import RoundJob
from ls_backend.store.records import RoundRecord, SessionRecord

MAX_ROUNDS = 200


class RoundsDone:
    """Rounds are counted from 1, on across restarts. Not thread-safe: its session locks.

    Args:
        record: the session that is gone on with; None begins anew.
    """

    def __init__(self, record: SessionRecord | None = None) -> None:
        self.opened_at_s = time.time() if record is None else record.opened_at_s
        self.newest = 0 if record is None else record.newest_round
        self._rounds: deque[tuple[RoundRecord, RoundJob | None]] = deque(maxlen=MAX_ROUNDS)
        self._rounds.extend((earlier, None) for earlier in (record.rounds if record is not None else ()))

    def begin(self, number: int, job: RoundJob, object_ids: Iterable[int], prompt_ids: Iterable[str]) -> None:
        """A round begins; how far it came is asked of its job."""
        self.newest = number
        self._rounds.append((RoundRecord(number, time.time(), tuple(object_ids), tuple(prompt_ids)), job))

    def records(self) -> tuple[RoundRecord, ...]:
        """The latest rounds as they are now."""
        return tuple(
            begun
            if job is None
            else replace(begun, n_masks=job.masks_done, finished=not job.is_running and not job.was_stopped)
            for begun, job in self._rounds
        )
