"""What a single pass works with: its source, its session, and what the summary says about both."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.batch.options import SegmentError
from pipeline.batch.summary import PromptsSummary, RunInputs, VideoSummary
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods import build_method
from pipeline.streaming.options import OnlineOptions
from pipeline.streaming.sources import (
    STDIN,
    GrowingFolderSource,
    PipeSource,
    Source,
    StreamSource,
    VideoFileSource,
    is_url,
    shown_url,
)
from pipeline.types import Prompt

if TYPE_CHECKING:
    from pipeline.streaming.session import OnlineSession

STDIN_DESCRIPTOR = 0


def open_source(options: OnlineOptions, stopping: threading.Event, note: Callable[[str], None]) -> Source:
    """The source that the command line names; nothing is read yet."""
    if options.source == STDIN:
        return PipeSource(STDIN_DESCRIPTOR)
    if is_url(options.source):
        return StreamSource(
            options.source, timeout_s=options.idle_s, reconnects=options.reconnects, stopping=stopping, note=note
        )
    if options.path.is_dir():
        return GrowingFolderSource(options.path, idle_s=options.idle_s, end_name=options.end_name, stopping=stopping)
    if options.path.is_fifo():
        return PipeSource(options.path, options.source)
    return VideoFileSource(options.path)


def open_session(options: OnlineOptions) -> OnlineSession:
    """A session before its first frame.

    Raises:
        SegmentError: the method cannot be built.
    """
    from pipeline.streaming.session import OnlineSession

    try:
        method = build_method(
            options.choice,
            store=options.store,
            device=options.device,
            embeddings=EmbeddingCache(options.embedding_ram_mib),
        )
        return OnlineSession(method, click_means=options.click_means)
    except ValueError as error:
        raise SegmentError(str(error)) from error


def shown_source(options: OnlineOptions) -> str:
    """The source as text that any JSON reader takes, without passwords."""
    return shown_url(options.source) if is_url(options.source) else _text(options.source)


def inputs_of(options: OnlineOptions, prompts: Iterable[Prompt], size_hw_px: tuple[int, int] | None) -> RunInputs:
    """What the summary says of the run's inputs; length and contents of the video come with its end."""
    height_px, width_px = size_hw_px or (0, 0)
    ordered = sorted(prompts, key=lambda prompt: (prompt.object_id, prompt.frame_index))
    return RunInputs.of(
        video=VideoSummary(path=shown_source(options), sha256="", frames=0, height_px=height_px, width_px=width_px),
        prompts=PromptsSummary(
            path="" if options.prompts is None else _text(options.prompts),
            sha256=hashlib.sha256(repr(ordered).encode()).hexdigest(),
        ),
        choice=options.choice,
        device=options.device,
    )


def _text(path: str | Path) -> str:
    return os.fsencode(path).decode(errors="replace")
