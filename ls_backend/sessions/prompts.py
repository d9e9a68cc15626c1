"""What the annotator asked for, by label and kind: requests bring one kind of one label, the memory has the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from ls_backend.protocol.prompts import (
    HAND_KINDS,
    SENT_KINDS,
    LabelPrompt,
    PromptKind,
    ReadPrompts,
    held_run_lengths,
    in_order,
)
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


KINDS: tuple[PromptKind, ...] = (*SENT_KINDS, *HAND_KINDS)
IsGone = Callable[[Collection[str]], bool]
"""Whether draft or annotation prove that the annotator deleted these regions."""


class PromptMemory:
    """The prompts of one annotation. Not thread-safe: its session locks."""

    def __init__(self) -> None:
        self._given: Prompts = {}

    def __iter__(self) -> Iterator[LabelPrompt]:
        """All prompts, in the order in which their labels and kinds came."""
        return (prompt for given in self._given.values() for prompt in given.values())

    def of(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label; masks made by hand come after what they settle, before what corrects them."""
        return in_order([prompt for kind in KINDS for prompt in self._given.get((label, kind), {}).values()])

    def has_any(self, prompt_ids: Collection[str]) -> bool:
        """Whether one of these prompts is known."""
        return any(not given.keys().isdisjoint(prompt_ids) for given in self._given.values())

    def mask_notes(self) -> list[LabelPrompt]:
        """The masks made by hand, of all labels."""
        return [prompt for prompt in self if prompt.kind == "mask"]

    def mask_note(self, label: str, frame_index: int) -> LabelPrompt | None:
        """The mask of a label that was made by hand on a frame."""
        return self._given.get((label, "mask"), {}).get(mask_note_id(label, frame_index))

    def merge(self, label: str, context: ReadPrompts, saved: ReadPrompts, is_gone: IsGone) -> None:
        """Take in a request's prompts of one label.

        Args:
            label: the label.
            context: the whole truth for the kinds that are in it.
            saved: what draft or annotation hold, for kinds that this memory knows nothing of.
            is_gone: finds prompts that were deleted since.
        """
        for kind in SENT_KINDS:
            sent = {p.region_id: p for p in context.prompts if (p.label, p.kind) == (label, kind)}
            if sent:
                self._given[label, kind] = sent
            elif (label, kind) not in self._given:
                stored = (p for p in saved.prompts if (p.label, p.kind) == (label, kind))
                self._given[label, kind] = {p.region_id: p for p in stored}
            else:
                known = self._given[label, kind].items()
                self._given[label, kind] = {i: prompt for i, prompt in known if not is_gone({i})}

    def take_strokes(
        self, labels: Collection[str], strokes: Strokes, fresh: Collection[str], newest: Newest
    ) -> list[str]:
        """Bring the hand work of some labels up to date, see `hand_work.take_strokes`; returns those that changed."""
        return [label for label in labels if take_strokes(self._given, label, strokes, fresh, newest)]

    def add(self, prompt: LabelPrompt) -> None:
        """Take in a prompt, unless it is known."""
        self._given.setdefault((prompt.label, prompt.kind), {}).setdefault(prompt.region_id, prompt)

    def forget(self, label: str) -> None:
        """The label has no prompts any more, of any kind."""
        for kind in KINDS:
            self._given.pop((label, kind), None)

    def resume(self, prompts: Iterable[LabelPrompt]) -> None:
        """Take in everything an earlier process knew: a kind that it had no prompts of is known to have none."""
        for prompt in prompts:
            self.add(prompt)
        for label, kind in itertools.product({label for label, _ in self._given}, SENT_KINDS):
            self._given.setdefault((label, kind), {})
