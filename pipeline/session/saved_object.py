"""The state of one object as it leaves a session and comes back, for whoever keeps sessions beyond the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.session.frame_mask import Known
from pipeline.types import Prompt, RunLengthMask


@dataclass(frozen=True)
class SavedObject:
    """Everything a session knows of one object but the rounds it could take back.

    Attributes:
        object_id: the object.
        round_index: how many rounds changed its prompts.
        prompts: all of them; the order within a frame counts.
        known: masks by frame.
        stale: frames that a round which did not finish left waiting.
        before_prompts: by prompted frame, the mask it had before its first prompt.
        interaction_frames: where the latest round prompted.
    """

    object_id: int
    round_index: int
    prompts: tuple[Prompt, ...]
    known: Mapping[int, Known]
    stale: frozenset[int] = frozenset()
    before_prompts: Mapping[int, RunLengthMask] = field(default_factory=dict)
    interaction_frames: frozenset[int] = frozenset()
