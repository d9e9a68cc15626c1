"""Rounds in the background. A request waits for its round until its time is up; then the round continues without it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ls_backend.protocol.prompts import LabelPrompt
from ls_backend.protocol.regions import LabelMask
from ls_backend.store.records import RoundRecord, SessionRecord
from pipeline.types import FrameResult

logger = logging.getLogger(__name__)
MAX_ROUNDS = 200
"""The log of a session keeps this many rounds."""


def _no_listener() -> None:
    """Ignores the progress of the round."""


class RoundJob:
    """One round in a thread of its own. Its masks are kept by the pipeline's session, not here.

    Args:
        name: names the thread and the log lines.
        run: starts the round; it must stop soon after the given ``cancelled`` returns True.
        slots: how many rounds may compute at the same time in this process.
        on_progress: called after each mask, and when the round has ended.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Callable[[], bool]], Iterator[FrameResult]],
        slots: threading.Semaphore,
        on_progress: Callable[[], None] = _no_listener,
    ) -> None:
        self._run = run
        self._on_progress = on_progress
        self._slots = slots
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self.error: Exception | None = None
        self.masks_done = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start computing."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the round to stop; finished frames stay."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the round ended, at most ``timeout_s``; returns whether it did.

        Raises:
            Exception: what the round raised.
        """
        finished = self._finished.wait(timeout_s)
        if finished and self.error is not None:
            raise self.error
        return finished

    @property
    def is_running(self) -> bool:
        """Whether the round has neither finished nor failed."""
        return not self._finished.is_set()

    @property
    def was_stopped(self) -> bool:
        """Whether the round was asked to stop, or failed; some of its frames are still to be done."""
        return self._cancelled.is_set() or self.error is not None

    def _work(self) -> None:
        try:
            with self._slots:
                for _ in self._run(self._cancelled.is_set):
                    self.masks_done += 1
                    self._on_progress()
            logger.info("%s: %d masks%s", self._thread.name, self.masks_done, ", stopped" if self.was_stopped else "")
        except Exception as error:
            # The request that waits for this round raises it; one whose budget is spent finds it here in the log.
            logger.exception("%s failed after %d masks", self._thread.name, self.masks_done)
            self.error = error
        finally:
            self._finished.set()
            self._on_progress()


@dataclass(frozen=True)
class RoundAnswer:
    """What a request is answered with.

    Attributes:
        masks: those that differ from what the editor has.
        emptied: painted regions to send back without their pixels, by id, each with the mask painted in it. Later
            prompts, or other objects, changed that mask.
        problems: one sentence for each prompt and each frame that cannot be used.
        is_complete: False if the round still runs; its masks come with the next answer.
    """

    masks: tuple[LabelMask, ...] = ()
    emptied: Mapping[str, LabelPrompt] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    is_complete: bool = True


@dataclass(frozen=True)
class Round:
    """A round that was started for a request. ``problems`` has one sentence for each prompt that it leaves out."""

    number: int
    job: RoundJob
    labels: tuple[str, ...]
    problems: tuple[str, ...]


class RoundLog:
    """The rounds of one session: their numbers, from 1 and across restarts, and what is remembered of the latest ones.

    Not thread-safe: its session locks.

    Args:
        record: the session that is continued; None for a new one.
    """

    def __init__(self, record: SessionRecord | None = None) -> None:
        self.opened_at_s = time.time() if record is None else record.opened_at_s
        self.newest = 0 if record is None else record.newest_round
        self._rounds: deque[tuple[RoundRecord, RoundJob | None]] = deque(maxlen=MAX_ROUNDS)
        self._rounds.extend((earlier, None) for earlier in (record.rounds if record is not None else ()))

    def begin(self, number: int, job: RoundJob, object_ids: Iterable[int], prompt_ids: Iterable[str]) -> None:
        """Note a round that begins; its job knows how far it has come."""
        self.newest = number
        self._rounds.append((RoundRecord(number, time.time(), tuple(object_ids), tuple(prompt_ids)), job))

    def records(self) -> tuple[RoundRecord, ...]:
        """The latest rounds as they are now."""
        return tuple(
            record
            if job is None
            else replace(record, n_masks=job.masks_done, finished=not job.is_running and not job.was_stopped)
            for record, job in self._rounds
        )
