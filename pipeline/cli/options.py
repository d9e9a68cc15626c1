"""Command line options that several commands share: the method, its parts, and how they become a `MethodChoice`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_zoo.store import ModelStore
from pipeline.methods.choice import MethodChoice, parse_options, resolved_parts
from pipeline.parts.registry import BOX_TRACKER, METHOD, POINT_TRACKER, SEGMENTER, own_names
from pipeline.settings import ModelSettings

DEFAULT_CHOICE = MethodChoice()

MethodName = Annotated[str, typer.Option(help=f"One of {', '.join(own_names(METHOD))}.")]
SegmenterName = Annotated[
    str,
    typer.Option(help=f"auto (the best one whose weights are here) or one of {', '.join(own_names(SEGMENTER))}."),
]
PointTrackerName = Annotated[str, typer.Option(help=f"One of {', '.join(own_names(POINT_TRACKER))}.")]
BoxTrackerName = Annotated[
    str,
    typer.Option(help=f"auto (the best one whose weights are here) or one of {', '.join(own_names(BOX_TRACKER))}."),
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="The segmenter's weights, instead of what `ivos models pull` brought.")
]
MethodOptions = Annotated[
    list[str] | None, typer.Option(help="One of the method's own settings, as NAME=VALUE; may be repeated.")
]
EmbeddingFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of image embeddings on disk, for them alone.", show_default="embeddings in the cache folder"
    ),
]


def method_choice(
    method: str,
    segmenter: str,
    point_tracker: str = DEFAULT_CHOICE.point_tracker,
    box_tracker: str = DEFAULT_CHOICE.box_tracker,
    checkpoint: Path | None = None,
    option: list[str] | None = None,
) -> MethodChoice:
    """The method and parts that the options name, checked.

    Raises:
        ValueError: a name is unknown, or an option is not of the form NAME=VALUE.
    """
    weights = None if checkpoint is None else checkpoint.expanduser()
    choice = MethodChoice(method, segmenter, point_tracker, box_tracker, weights, parse_options(option or ()))
    choice.check()
    return choice


def resolved_choice(choice: MethodChoice) -> tuple[MethodChoice, ModelStore]:
    """The choice with ``auto`` replaced by the parts it means on this machine, and the models of this machine.

    Raises:
        ValueError: no model of method sam2 is here, or an ``IVOS_*`` setting is wrong.
    """
    store = ModelSettings().model_store
    return resolved_parts(choice, store), store
