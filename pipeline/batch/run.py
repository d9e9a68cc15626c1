"""`ivos segment` over a whole video: check the inputs, segment, write results as they come, stop on request."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_zoo.store import ModelStore
from pipeline.batch.prompt_file import PromptFile, pipeline_prompts, read_prompt_file
from pipeline.batch.run_folder import RunFolder
from pipeline.batch.summary import (
    PromptsSummary,
    RunFolderError,
    RunInputs,
    Summary,
    VideoSummary,
    path_text,
    read_summary,
)
from pipeline.cli.console import print_note, progress_bar
from pipeline.cli.stopping import StopRequest
from pipeline.embeddings.cache import DISK_MIB, embedding_cache
from pipeline.methods.choice import MethodChoice, build_method, option_words
from pipeline.settings import ModelSettings
from pipeline.types import FrameResult, Prompt
from pipeline.video.frames import FrameError, ImageFileFrames
from pipeline.video.video_file import FRAME_DISK_MIB, VideoFileFrames

if TYPE_CHECKING:
    from pipeline.session.session import Session

DEVICE = "auto"
EMBEDDING_RAM_MIB = 1024
EMBEDDING_DISK_MIB = DISK_MIB
SUMMARY_EVERY_S = 5.0
"""A killed run loses the masks that are newer than its summary."""


class SegmentError(Exception):
    """The run is not possible. The message says what was expected, what arrived and what to do."""


@dataclass(frozen=True)
class SegmentOptions:
    """The options of `ivos segment` without ``--online``."""

    video: Path
    prompts: Path
    output: Path
    choice: MethodChoice
    store: ModelStore
    device: str = DEVICE
    embedding_ram_mib: int = EMBEDDING_RAM_MIB
    frame_disk_mib: int = FRAME_DISK_MIB
    resume: bool = False
    overwrite: bool = False
    embedding_disk_mib: int = EMBEDDING_DISK_MIB
    embedding_folder: Path | None = None
    """None: `embeddings` in the cache folder, which the backend uses too."""

    def check(self) -> None:
        """Check what can be checked without reading a file.

        Raises:
            SegmentError: two options contradict each other.
        """
        if self.resume and self.overwrite:
            raise SegmentError("--resume continues a run and --overwrite starts afresh; give one of them")

    def command_to_continue(self, started: bool) -> str:
        """The shell command that continues this run, or starts it again if it has not ``started``."""
        default_choice = MethodChoice()
        words = ["ivos", "segment", str(self.video), "--prompts", str(self.prompts), "--output", str(self.output)]
        for option, value, default in (
            ("--method", self.choice.method, default_choice.method),
            ("--segmenter", self.choice.segmenter, default_choice.segmenter),
            ("--point-tracker", self.choice.point_tracker, default_choice.point_tracker),
            ("--box-tracker", self.choice.box_tracker, default_choice.box_tracker),
            ("--device", self.device, DEVICE),
            ("--embedding-ram-mib", self.embedding_ram_mib, EMBEDDING_RAM_MIB),
            ("--embedding-disk-mib", self.embedding_disk_mib, EMBEDDING_DISK_MIB),
            ("--frame-disk-mib", self.frame_disk_mib, FRAME_DISK_MIB),
        ):
            words += [option, str(value)] if value != default else []
        words += [] if self.choice.checkpoint is None else ["--checkpoint", str(self.choice.checkpoint)]
        words += [] if self.embedding_folder is None else ["--embedding-folder", str(self.embedding_folder)]
        for word in option_words(self.choice.options):
            words += ["--option", word]
        return shlex.join([*words, "--overwrite" if self.overwrite and not started else "--resume"])


class SegmentRun:
    """One run of the command."""

    def __init__(self, options: SegmentOptions, stop: StopRequest) -> None:
        self._options, self._stop = options, stop
        self._started_s = time.monotonic()
        self._segment_from_s: float | None = None
        self._folder: RunFolder | None = None
        self._n_frames = 0

    def progress_line(self) -> str:
        """The progress of the run and the command that continues it, in one line."""
        done = "nothing new was written"
        if self._folder is not None:
            done = f"{len(self._folder.done_frames)} of {self._n_frames} frames are done"
        return f"{done}; continue with: {self._options.command_to_continue(self._folder is not None)}"

    def run(self) -> None:
        """Check everything, then segment.

        Raises:
            Stopped: a signal arrived; finished masks are written.
            SegmentError, PromptFileError, RunFolderError, VideoError, FrameError: an input cannot be used.
        """
        options = self._options
        options.check()
        file = read_prompt_file(options.prompts)
        earlier = self._earlier()
        with ExitStack() as resources:
            frames = self._frames(resources)
            self._n_frames = len(frames)
            prompts = pipeline_prompts(file, options.prompts, n_frames=len(frames), size_hw_px=frames.size_hw_px)
            _require_readable(frames, prompts)
            folder = self._run_folder(file, prompts, frames)
            restored = folder.restore(earlier) if earlier is not None else []
            if folder.is_complete:
                print_note(f"{options.output} is complete already; nothing to do")
                return
            session = self._session(frames, resources)
            if earlier is None:
                folder.clear()
            self._folder = folder
            self._segment(session, folder, prompts, restored)
        self._finish(folder)

    def _earlier(self) -> Summary | None:
        """The run to continue; None to start from the beginning.

        Raises:
            RunFolderError: the folder holds a run that is not to be replaced, or something else.
        """
        earlier = read_summary(self._options.output)
        if earlier is None or self._options.overwrite:
            return None
        if not self._options.resume:
            state = "a complete" if earlier.complete else "an unfinished"
            raise RunFolderError(
                f"{self._options.output} holds {state} run; --resume continues it, --overwrite replaces it"
            )
        return earlier

    def _frames(self, resources: ExitStack) -> ImageFileFrames | VideoFileFrames:
        video = self._options.video
        if video.is_dir():
            try:
                return ImageFileFrames.from_folder(video)
            except OSError as error:
                raise SegmentError(f"{error.strerror}: {video}" if error.strerror else str(error)) from error
        with progress_bar() as progress:
            bar = progress.add_task("reading the video", total=None)

            def on_frame(n_frames: int, announced: int) -> None:
                self._stop.check()
                progress.update(bar, completed=n_frames, total=announced if announced >= n_frames else None)

            frames = VideoFileFrames(
                video, disk_mib=self._options.frame_disk_mib, on_frame=on_frame, check=self._stop.check
            )
            resources.enter_context(frames)
            progress.update(bar, total=len(frames))
        if len(frames) < frames.announced_frames:
            announced = frames.announced_frames
            print_note(f"note: {video} announces {announced} frames, but only {len(frames)} can be decoded")
        if frames.kept_frames < len(frames):
            print_note(
                f"note: {frames.kept_frames} of {len(frames)} frames fit into --frame-disk-mib "
                f"{self._options.frame_disk_mib}; the others are decoded again when needed"
            )
        return frames

    def _run_folder(
        self, file: PromptFile, prompts: Sequence[Prompt], frames: ImageFileFrames | VideoFileFrames
    ) -> RunFolder:
        options = self._options
        height_px, width_px = frames.size_hw_px
        content = frames.paths if isinstance(frames, ImageFileFrames) else [options.video]
        inputs = RunInputs.of(
            video=VideoSummary(
                path=path_text(options.video),
                sha256=_content_sha256(content, self._stop.check),
                frames=len(frames),
                height_px=height_px,
                width_px=width_px,
            ),
            prompts=PromptsSummary.of(options.prompts, prompts),
            choice=options.choice,
            device=options.device,
        )
        names = {entry.object_id: entry.name for entry in file.objects}
        prompted = {k: [prompt.frame_index for prompt in prompts if prompt.object_id == k] for k in names}
        return RunFolder(options.output, inputs, names, prompted)

    def _session(self, frames: ImageFileFrames | VideoFileFrames, resources: ExitStack) -> Session:
        from pipeline.session.session import Session

        options = self._options
        try:
            folder = options.embedding_folder or ModelSettings().cache_dir / "embeddings"
            embeddings = embedding_cache(options.embedding_ram_mib, options.embedding_disk_mib, folder.expanduser())
            resources.callback(embeddings.close)
            method = build_method(options.choice, store=options.store, device=options.device, embeddings=embeddings)
        except ValueError as error:
            raise SegmentError(str(error)) from error
        self._stop.check()
        return Session(frames, method)

    def _segment(
        self, session: Session, folder: RunFolder, prompts: tuple[Prompt, ...], restored: Sequence[FrameResult]
    ) -> None:
        """Run the round and write its results as they come.

        Raises:
            Stopped: a signal arrived.
        """
        object_ids = sorted({prompt.object_id for prompt in prompts})
        self._segment_from_s = time.monotonic()
        session.restore(prompts, restored, unreadable=folder.failed_frames)
        self._write_summary(folder)
        written_s = time.monotonic()
        with progress_bar() as progress:
            bar = progress.add_task("segmenting", total=self._n_frames * len(object_ids), completed=folder.n_masks)
            try:
                for result in session.run_round(prompts, object_ids=object_ids, cancelled=lambda: self._stop.requested):
                    folder.add(result)
                    progress.update(bar, completed=folder.n_masks)
                    if time.monotonic() - written_s > SUMMARY_EVERY_S:
                        self._write_summary(folder)
                        written_s = time.monotonic()
            finally:
                folder.add_failed(session.frame_errors)
                folder.set_suggestions(session.suggestions())
                self._write_summary(folder)
            if not self._stop.requested:
                progress.update(bar, completed=self._n_frames * len(object_ids))
        if not folder.is_complete:
            self._stop.check()

    def _write_summary(self, folder: RunFolder) -> Summary:
        now_s = time.monotonic()
        return folder.write_summary(run_s=now_s - self._started_s, segment_s=now_s - (self._segment_from_s or now_s))

    def _finish(self, folder: RunFolder) -> None:
        summary = self._write_summary(folder)
        for frame_index, reason in sorted(folder.failed_frames.items()):
            print_note(f"warning: frame {frame_index} has no mask: {reason}")
        if not folder.is_complete:
            print_note("warning: some frames have no mask of some objects, see the summary's scores")
        if summary.next_frames:
            places = (f"{each.frame_index} (object {each.object_id})" for each in summary.next_frames)
            print_note(f"frames to correct next, the most useful first: {', '.join(places)}")
        objects = "1 object" if len(summary.objects) == 1 else f"{len(summary.objects)} objects"
        print_note(
            f"{len(folder.done_frames)} frames, {objects} in {summary.seconds:.1f} s "
            f"({summary.seconds_per_frame or 0:.3f} s a frame), written to {self._options.output}"
        )


def _require_readable(frames: ImageFileFrames | VideoFileFrames, prompts: Iterable[Prompt]) -> None:
    """Check that every frame with prompts can be read.

    Raises:
        SegmentError: one cannot.
    """
    for frame_index in sorted({prompt.frame_index for prompt in prompts}):
        try:
            frames.frame(frame_index)
        except FrameError as error:
            raise SegmentError(
                f"{error}; it has prompts, so it must be readable: replace it, or prompt another"
            ) from error


def _content_sha256(paths: Iterable[Path], on_chunk: Callable[[], None]) -> str:
    """A hash of the contents of files, not of their names. An unreadable file counts as empty."""
    whole = hashlib.sha256()
    for path in paths:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    on_chunk()
        except OSError:
            digest = hashlib.sha256()
        whole.update(digest.digest())
    return whole.hexdigest()
