"""What the command line of `ivos segment` says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from model_zoo.store import ModelStore
from pipeline.methods import MethodChoice
from pipeline.methods.options import option_words
from pipeline.video.video_file import FRAME_DISK_MIB

DEVICE = "auto"
EMBEDDING_RAM_MIB = 1024
EMBEDDING_DISK_MIB = 0


class SegmentError(Exception):
    """The run cannot be made. The message says what was expected, what arrived and what to do."""


@dataclass(frozen=True)
class SegmentOptions:
    """What the command line says."""

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

    def check(self) -> None:
        """Refuse what needs no look at any file.

        Raises:
            SegmentError: two options contradict each other.
        """
        if self.resume and self.overwrite:
            raise SegmentError("--resume continues a run and --overwrite starts afresh; give one of them")

    def command_to_continue(self, started: bool) -> str:
        """A line for the shell that goes on where this run stops, or begins what has not ``started``."""
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
        for word in option_words(self.choice.options):
            words += ["--option", word]
        return shlex.join([*words, "--overwrite" if self.overwrite and not started else "--resume"])
