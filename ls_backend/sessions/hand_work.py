"""Merges what the annotator drew into what is known of a label: scribbles and masks made by hand.

Both follow the newest draft or annotation that a request shows. A mask made by hand is kept, too, while the frame shows
what later prompts made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ls_backend.protocol.prompts import HAND_KINDS, SENT_KINDS, LabelPrompt, PromptKind, held_run_lengths
from ls_backend.protocol.regions import region_id
from ls_backend.protocol.strokes import Strokes, Truth, mask_note_id
from pipeline.types import RunLengthMask

Prompts = dict[tuple[str, PromptKind], dict[str, LabelPrompt]]
"""By label and kind, then by id."""
Newest = Callable[[str], RunLengthMask | None]
"""The newest mask of this backend by region id."""


def take_strokes(prompts: Prompts, label: str, strokes: Strokes, fresh: Collection[str], newest: Newest) -> bool:
    """Bring the scribbles and hand-made masks of a label up to date; returns whether anything changed.

    Args:
        prompts: changed in place.
        label: the label.
        strokes: what the newest draft or annotation holds.
        fresh: ids of the prompts that the annotator gave just now, later than anything that is stored.
        newest: see `Newest`.
    """
    before = {kind: prompts.get((label, kind), {}) for kind in HAND_KINDS}
    scribbles = {prompt.region_id: prompt for prompt in strokes.scribbles(label, before["scribble"].values())}
    sent = [prompt for kind in SENT_KINDS for prompt in prompts.get((label, kind), {}).values()]
    earlier = [prompt for prompt in (*sent, *scribbles.values()) if prompt.region_id not in fresh]
    masks = _masks(label, strokes, before["mask"], earlier, newest)
    if not sent and not scribbles and not masks and _masks_are_there(label, strokes):
        # Who only tidies strokes away before submitting keeps the masks, and the object.
        return False
    prompts[label, "scribble"], prompts[label, "mask"] = scribbles, masks
    return scribbles != before["scribble"] or masks != before["mask"]


def _masks(
    label: str, strokes: Strokes, known: Mapping[str, LabelPrompt], earlier: Collection[LabelPrompt], newest: Newest
) -> dict[str, LabelPrompt]:
    found: dict[str, LabelPrompt] = {}
    for truth in strokes.truths(label):
        note_id = mask_note_id(label, truth.frame_index)
        before = known.get(note_id)
        found[note_id] = before if before is not None and is_version(before, truth) else _made(truth, earlier)
    for note_id, note in known.items():
        if note_id not in found and _is_built_on(note, strokes, newest):
            found[note_id] = note
    return found


def is_version(note: LabelPrompt, truth: Truth) -> bool:
    """Whether a mask prompt was made from what is stored now."""
    return note.held_mask is not None and note.held_mask.version == truth.version


def made_mask(note: LabelPrompt) -> RunLengthMask:
    """The mask of a mask prompt.

    Raises:
        ValueError: it is a prompt of another kind.
    """
    held = note.held_mask
    if held is None:
        raise ValueError(f"expected a mask, but the prompt {note.region_id!r} is a {note.kind}")
    return held_run_lengths(held)


def _made(truth: Truth, earlier: Collection[LabelPrompt]) -> LabelPrompt:
    return truth.prompt(prompt.region_id for prompt in earlier if prompt.frame_index == truth.frame_index)


def _is_built_on(note: LabelPrompt, strokes: Strokes, newest: Newest) -> bool:
    """Whether the frame shows the mask made by hand or what later prompts made of it, not what was there before."""
    made = made_mask(note)
    after = newest(region_id(note.label, note.frame_index))
    return strokes.shows(note, [made] if after is None else [made, after])


def _masks_are_there(label: str, strokes: Strokes) -> bool:
    return any(stored.label == label for stored in strokes.of_backend.values())
