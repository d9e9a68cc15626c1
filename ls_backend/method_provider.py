"""The method of this process. With ``IVOS_SEGMENTER=auto`` a larger segmenter takes over once its weights are here."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ls_backend.settings import Settings
from model_zoo.registry import find
from pipeline.embeddings.cache import embedding_cache
from pipeline.methods.choice import build_method
from pipeline.parts.auto import AUTO, DOWNLOAD_FREE, FIT_FOR_CPU, SMALL, VIDEO_MODELS_BEST_FIRST, resolve_segmenter
from pipeline.parts.device import resolve_device

if TYPE_CHECKING:
    from pipeline.methods.base import Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedMethod:
    """A built method and the name under which Label Studio knows its predictions."""

    method: Method
    model_version: str


class MethodProvider:
    """Builds the method at once; pulls the smallest other segmenter once, in the background, if ``auto`` finds none.

    Videos opened after that are segmented with it; those already open keep the method that they were opened with.
    """

    def __init__(self, settings: Settings) -> None:
        """Build the method.

        Raises:
            ValueError: a part cannot be built; the message says what is missing and what to do.
        """
        self._settings = settings
        self._store = settings.model_store
        self._embeddings = embedding_cache(
            settings.embedding_ram_mib, settings.embedding_disk_mib, settings.cache_dir / "embeddings"
        )
        self._closed = threading.Event()
        choice = settings.method_choice
        segmenter = resolve_segmenter(choice.method, choice.segmenter, self._store)
        self._current = self._built(segmenter)
        self._pull = threading.Thread(target=self._upgrade, name=f"pull {SMALL}", daemon=True)
        if choice.segmenter == AUTO:
            logger.info("segmenter auto: %s is the best one on this machine", segmenter)
            if segmenter not in FIT_FOR_CPU and resolve_device(settings.device) == "cpu":
                fit = [name for name in FIT_FOR_CPU if (name in VIDEO_MODELS_BEST_FIRST) == (choice.method == "sam2")]
                logger.warning("%s takes long on a CPU; name one of %s", segmenter, ", ".join(fit))
        if choice.segmenter == AUTO and segmenter == DOWNLOAD_FREE:
            self._pull.start()

    @property
    def current(self) -> ServedMethod:
        """What a video opened now is segmented with."""
        return self._current

    @property
    def is_pulling(self) -> bool:
        """Whether a download or the change to a new segmenter is under way."""
        return self._pull.is_alive()

    def close(self) -> None:
        """Stop a download; what it has so far is kept for the next start."""
        self._closed.set()
        if self.is_pulling:
            self._pull.join(timeout=self._settings.fetch_timeout_s)
        self._embeddings.close()

    def _built(self, segmenter: str) -> ServedMethod:
        choice = replace(self._settings.method_choice, segmenter=segmenter)
        method = build_method(choice, store=self._store, device=self._settings.device, embeddings=self._embeddings)
        return ServedMethod(method, f"{choice.method}+{segmenter}")

    def _upgrade(self) -> None:
        """Pull the small segmenter and switch to it. A failure is logged once; the current segmenter stays in use."""
        size_bytes = find(SMALL).size_bytes
        size = "" if size_bytes is None else f" ({size_bytes / 2**20:.0f} MiB)"
        logger.info("pulling %s%s in the background; until it is here, %s segments", SMALL, size, DOWNLOAD_FREE)
        try:
            self._store.pull(SMALL, report=self._stop_if_closed)
            self._current = self._built(SMALL)
        except _ClosedError:
            logger.info("the download of %s was stopped; the next start continues it", SMALL)
        except Exception as error:  # A failure here must not stop the server.
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            logger.warning(
                "%s could not be taken into use, so %s goes on segmenting: %s. "
                "For the next start: `ivos models pull %s`, or IVOS_SEGMENTER=%s to leave it at that",
                *(SMALL, DOWNLOAD_FREE, reason, SMALL, DOWNLOAD_FREE),
            )
        else:
            logger.info("%s is here: tasks opened from now on are segmented with it", SMALL)

    def _stop_if_closed(self, _file_name: str, _done_bytes: int, _total_bytes: int | None) -> None:
        if self._closed.is_set():
            raise _ClosedError


class _ClosedError(Exception):
    """The process ends, so the download does."""
