"""The options of `ivos segment --online`, and the source, session and summary inputs they stand for."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from model_zoo.store import ModelStore
from pipeline.batch.run import DEVICE, EMBEDDING_RAM_MIB, SegmentError
from pipeline.batch.summary import PromptsSummary, RunInputs, VideoSummary, path_text
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.choice import MethodChoice, build_method, online_methods
from pipeline.streaming.session import ClickMeans, OnlineSession
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

IDLE_S = 10.0
END_NAME = "end"
RECONNECTS = 5
STDIN_DESCRIPTOR = 0


@dataclass(frozen=True)
class OnlineOptions:
    """The options of `ivos segment --online`.

    Attributes:
        source: a video file, a folder, a named pipe, `STDIN`, or an address.
        prompts: the prompts file; without one all objects start with answers.
        output: folder of the run.
        choice: the method and its parts.
        store: the models of this machine.
        device: auto, cpu, cuda, cuda:N or mps.
        embedding_ram_mib: bound of image embeddings in memory.
        overwrite: replace an earlier run in ``output``.
        answers: file or named pipe of answers, `STDIN`, or None for standard input if that is not the source.
        answer_timeout_s: how long to wait for answers to a request; 0: not at all.
        drop_late: whether newer frames replace those that wait; None: only those of live sources.
        idle_s: how long a folder may have no new image, or a stream no frame.
        end_name: name of the file that ends a folder.
        reconnects: how often a broken stream is opened again without a frame in between.
        click_means: how a single positive click on a known object is interpreted.
    """

    source: str
    prompts: Path | None
    output: Path
    choice: MethodChoice
    store: ModelStore
    device: str = DEVICE
    embedding_ram_mib: int = EMBEDDING_RAM_MIB
    overwrite: bool = False
    answers: str | None = None
    answer_timeout_s: float = 0.0
    drop_late: bool | None = None
    idle_s: float = IDLE_S
    end_name: str = END_NAME
    reconnects: int = RECONNECTS
    click_means: ClickMeans = ClickMeans.WHERE

    def check(self) -> None:
        """Check what can be checked without reading a file.

        Raises:
            SegmentError: options contradict each other, the source does not exist, or the method cannot work online.
        """
        if self.choice.method not in online_methods():
            raise SegmentError(
                f"the method {self.choice.method} looks at the whole clip; --online needs one that follows a video "
                f"while it arrives: {', '.join(online_methods())}"
            )
        if self.answers == STDIN == self.source:
            raise SegmentError("standard input is the video; --answers needs a file or a named pipe")
        for name, seconds in (("--answer-timeout-s", self.answer_timeout_s), ("--idle-s", self.idle_s)):
            if not math.isfinite(seconds) or seconds < 0:
                raise SegmentError(f"{name} is {seconds}; expected seconds, 0 or more")
        if os.sep in self.end_name or self.end_name in ("", ".", ".."):
            raise SegmentError(f"--end-file is {self.end_name!r}; expected the name of a file in the folder")
        if self.source != STDIN and not is_url(self.source) and not self.path.exists():
            raise SegmentError(f"{self.source}: there is no such file or folder")

    @property
    def path(self) -> Path:
        """The source as a path; for sources that are one."""
        return Path(self.source).expanduser()

    @property
    def answers_from(self) -> str | None:
        """Where answers are read from: a path, `STDIN`, or None."""
        if self.answers is None:
            return None if self.source == STDIN else STDIN
        return self.answers


def open_source(options: OnlineOptions, stopping: threading.Event, note: Callable[[str], None]) -> Source:
    """The source of the options; nothing is read yet."""
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
    """Build the method and a session before its first frame.

    Raises:
        SegmentError: the method cannot be built.
    """
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
    """The source as text that any JSON reader accepts, without passwords."""
    return shown_url(options.source) if is_url(options.source) else path_text(options.source)


def run_inputs(options: OnlineOptions, prompts: Iterable[Prompt], size_hw_px: tuple[int, int] | None) -> RunInputs:
    """The inputs of the run for its summary; length and hash of the video are filled in later."""
    height_px, width_px = size_hw_px or (0, 0)
    return RunInputs.of(
        video=VideoSummary(path=shown_source(options), sha256="", frames=0, height_px=height_px, width_px=width_px),
        prompts=PromptsSummary.of(options.prompts, prompts),
        choice=options.choice,
        device=options.device,
    )
