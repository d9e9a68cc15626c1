"""What the annotator asked for, by label and kind: requests bring one kind of one label, the memory has the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator

from ls_backend.protocol.prompts import HAND_KINDS, SENT_KINDS, LabelPrompt, PromptKind, ReadPrompts, in_order
from ls_backend.protocol.strokes import Strokes, mask_note_id
from ls_backend.sessions.hand_work import Newest, Prompts, take_strokes

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
