"""What the annotator asked for, by label and kind.

A request brings the clicks or the boxes of one label. Scribbles and hand-made masks of all labels follow the newest
draft or annotation that a request shows. The memory has everything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator

from ls_backend.protocol.prompts import HAND_KINDS, SENT_KINDS, LabelPrompt, PromptKind, from_runs, in_order
from ls_backend.protocol.regions import region_id
from ls_backend.protocol.request_context import RequestContext
from ls_backend.protocol.strokes import HandMask, Strokes, mask_prompt_id
from pipeline.types import RunLengthMask

KINDS: tuple[PromptKind, ...] = (*SENT_KINDS, *HAND_KINDS)
IsGone = Callable[[Collection[str]], bool]
"""Whether draft or annotation prove that the annotator deleted these regions."""
NewestMask = Callable[[str], RunLengthMask | None]
"""The newest mask of this backend by region id."""


class PromptMemory:
    """The prompts of one annotation. Not thread-safe: its session locks."""

    def __init__(self) -> None:
        self._prompts: dict[tuple[str, PromptKind], dict[str, LabelPrompt]] = {}
        self._merged_from: dict[tuple[str, PromptKind], int] = {}
        """The number of the request that the prompts of a label and kind come from."""

    def __iter__(self) -> Iterator[LabelPrompt]:
        """All prompts, in the order in which their labels and kinds came."""
        return (prompt for prompts in self._prompts.values() for prompt in prompts.values())

    def of(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label. A hand-made mask comes after the prompts it replaces, before its corrections."""
        return in_order([prompt for kind in KINDS for prompt in self._of_kind(label, kind).values()])

    def _of_kind(self, label: str, kind: PromptKind) -> dict[str, LabelPrompt]:
        return self._prompts.get((label, kind), {})

    def has_any(self, prompt_ids: Collection[str]) -> bool:
        """Whether one of these prompts is known."""
        return any(not prompts.keys().isdisjoint(prompt_ids) for prompts in self._prompts.values())

    def hand_masks(self) -> list[LabelPrompt]:
        """The hand-made masks of all labels."""
        return [prompt for prompt in self if prompt.kind == "mask"]

    def hand_mask(self, label: str, frame_index: int) -> LabelPrompt | None:
        """The hand-made mask of a label on a frame."""
        return self._of_kind(label, "mask").get(mask_prompt_id(label, frame_index))

    def is_overtaken(self, context: RequestContext) -> bool:
        """Whether newer requests have brought all that a request brings."""
        keys = {(prompt.label, prompt.kind) for prompt in context.prompts}
        return all(self._merged_from.get(key, 0) > context.number for key in keys)

    def merge(self, label: str, context: RequestContext, is_gone: IsGone) -> None:
        """Take in a request's prompts of one label.

        A kind that the request has prompts of is replaced by them, unless a newer request brought that kind. Of a kind
        that this memory knows nothing of, the saved prompts are taken. Of other kinds, deleted prompts are dropped.
        """
        for kind in SENT_KINDS:
            sent = {p.region_id: p for p in context.prompts if (p.label, p.kind) == (label, kind)}
            if sent and context.number >= self._merged_from.get((label, kind), 0):
                self._prompts[label, kind] = sent
                self._merged_from[label, kind] = context.number
            elif (label, kind) not in self._prompts:
                saved = (p for p in context.saved_prompts if (p.label, p.kind) == (label, kind))
                self._prompts[label, kind] = {p.region_id: p for p in saved}
            else:
                known = self._prompts[label, kind].items()
                self._prompts[label, kind] = {i: prompt for i, prompt in known if not is_gone({i})}

    def merge_strokes(self, label: str, strokes: Strokes, new_ids: Collection[str], newest_mask: NewestMask) -> bool:
        """Bring the scribbles and hand-made masks of a label up to date; returns whether anything changed.

        A hand-made mask is kept, too, while the frame shows what later prompts made of it.

        Args:
            label: the label.
            strokes: what the newest draft or annotation has.
            new_ids: ids of the prompts that the annotator gave just now, later than anything that is saved.
            newest_mask: finds the masks that frames have now.
        """
        before = {kind: self._of_kind(label, kind) for kind in HAND_KINDS}
        scribbles = {prompt.region_id: prompt for prompt in strokes.scribbles(label, before["scribble"].values())}
        sent = [prompt for kind in SENT_KINDS for prompt in self._of_kind(label, kind).values()]
        earlier = [prompt for prompt in (*sent, *scribbles.values()) if prompt.region_id not in new_ids]
        masks = self._merged_masks(label, strokes, earlier, newest_mask)
        if not sent and not scribbles and not masks and _shows_masks(label, strokes):
            # An annotator who only tidies strokes away before submitting keeps the masks, and the object.
            return False
        self._prompts[label, "scribble"], self._prompts[label, "mask"] = scribbles, masks
        return scribbles != before["scribble"] or masks != before["mask"]

    def _merged_masks(
        self, label: str, strokes: Strokes, earlier: Collection[LabelPrompt], newest_mask: NewestMask
    ) -> dict[str, LabelPrompt]:
        known = self._of_kind(label, "mask")
        found: dict[str, LabelPrompt] = {}
        for hand_mask in strokes.hand_masks(label):
            prompt_id = mask_prompt_id(label, hand_mask.frame_index)
            before = known.get(prompt_id)
            if before is not None and is_version(before, hand_mask):
                found[prompt_id] = before
            else:
                frame_index = hand_mask.frame_index
                found[prompt_id] = hand_mask.prompt(p.region_id for p in earlier if p.frame_index == frame_index)
        for prompt_id, prompt in known.items():
            if prompt_id not in found and _is_still_shown(prompt, strokes, newest_mask):
                found[prompt_id] = prompt
        return found

    def add(self, prompt: LabelPrompt) -> None:
        """Take in a prompt, unless it is known."""
        self._prompts.setdefault((prompt.label, prompt.kind), {}).setdefault(prompt.region_id, prompt)

    def forget(self, label: str) -> None:
        """Drop all prompts of a label."""
        for kind in KINDS:
            self._prompts.pop((label, kind), None)

    def resume(self, prompts: Iterable[LabelPrompt]) -> None:
        """Take in everything an earlier process knew: a kind that it had no prompts of is known to have none."""
        for prompt in prompts:
            self.add(prompt)
        for label, kind in itertools.product({label for label, _ in self._prompts}, SENT_KINDS):
            self._prompts.setdefault((label, kind), {})


def is_version(prompt: LabelPrompt, hand_mask: HandMask) -> bool:
    """Whether a mask prompt was made from what is saved now."""
    return prompt.hand_mask is not None and prompt.hand_mask.version == hand_mask.version


def run_lengths(prompt: LabelPrompt) -> RunLengthMask:
    """The mask of a mask prompt.

    Raises:
        ValueError: it is a prompt of another kind.
    """
    if prompt.hand_mask is None:
        raise ValueError(f"expected a mask, but the prompt {prompt.region_id!r} is a {prompt.kind}")
    return from_runs(prompt.hand_mask)


def _is_still_shown(prompt: LabelPrompt, strokes: Strokes, newest_mask: NewestMask) -> bool:
    """Whether the frame shows the hand-made mask or what later prompts made of it, not what was there before."""
    by_hand = run_lengths(prompt)
    after = newest_mask(region_id(prompt.label, prompt.frame_index))
    return strokes.shows(prompt, [by_hand] if after is None else [by_hand, after])


def _shows_masks(label: str, strokes: Strokes) -> bool:
    return any(stored.label == label for stored in strokes.of_backend.values())
