"""Records ↔ rows. JSON keeps floats exactly, so that stored prompts compare equal with the same prompts sent again."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Collection, Iterable
from typing import Any

from ls_backend.store.records import EditorCopy, EditorRecord, PromptRecord, RoundRecord
from pipeline.masks import SoftMask
from pipeline.session.object_state import FrameMask, ObjectState, prompts_by_frame
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, Prompt, RunLengthMask, ScribblePrompt

Values = dict[str, Any]
"""The columns of one row, without the session's id."""
_DIGEST_AND_ROUND = struct.Struct(">16sI")


def prompt_to_json(prompt: Prompt) -> Values:
    """One prompt without its object's id."""
    frame = {"frame_index": prompt.frame_index}
    if isinstance(prompt, PointPrompt):
        return {"kind": "point", **frame, "xy_px": [prompt.x_px, prompt.y_px], "positive": prompt.positive}
    if isinstance(prompt, BoxPrompt):
        return {"kind": "box", **frame, "box_xyxy_px": prompt.box_xyxy_px}
    if isinstance(prompt, ScribblePrompt):
        stroke = {"path_xy_px": prompt.path_xy_px, "width_px": prompt.width_px, "positive": prompt.positive}
        return {"kind": "scribble", **frame, **stroke}
    # COCO's compressed run lengths are printable ASCII.
    mask = prompt.mask
    return {"kind": "mask", **frame, "size": [mask.height_px, mask.width_px], "counts": mask.counts.decode("ascii")}


def prompt_from_json(object_id: int, values: Values) -> Prompt:
    """The way back.

    Raises:
        ValueError: of no known kind.
        KeyError: a field is missing.
    """
    kind, frame_index = values["kind"], values["frame_index"]
    if kind == "point":
        x_px, y_px = values["xy_px"]
        return PointPrompt(object_id, frame_index, x_px, y_px, values["positive"])
    if kind == "box":
        x0, y0, x1, y1 = values["box_xyxy_px"]
        return BoxPrompt(object_id, frame_index, (x0, y0, x1, y1))
    if kind == "scribble":
        path = tuple((x_px, y_px) for x_px, y_px in values["path_xy_px"])
        return ScribblePrompt(object_id, frame_index, path, values["width_px"], values["positive"])
    if kind == "mask":
        height_px, width_px = values["size"]
        return MaskPrompt(object_id, frame_index, RunLengthMask(height_px, width_px, values["counts"].encode("ascii")))
    raise ValueError(f"a stored prompt is of the kind {kind!r}; expected point, box, scribble or mask")


def frames_to_text(frame_indices: Collection[int]) -> str:
    """Frame indices as ranges: ``0-4,7``."""
    runs = itertools.groupby(enumerate(sorted(frame_indices)), key=lambda pair: pair[1] - pair[0])
    bounds = [[index for _, index in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in bounds)


def frames_from_text(text: str) -> frozenset[int]:
    """The way back.

    Raises:
        ValueError: the text is no list of ranges.
    """
    frames: set[int] = set()
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        frames.update(range(int(first), int(last or first) + 1))
    return frozenset(frames)


def object_values(object_id: int, label: str, saved: ObjectState | None) -> Values:
    """An `ObjectRow`."""
    state = None if saved is None else json.dumps(
        {
            "round_index": saved.round_index,
            "prompts": [prompt_to_json(prompt) for prompt in saved.all_prompts],
            "stale": frames_to_text(saved.stale),
            "interaction_frames": frames_to_text(saved.interaction_frames),
        }
    )  # fmt: skip
    return {"object_id": object_id, "label": label, "state": state}


def read_object(
    object_id: int, state: str, masks: dict[int, FrameMask], masks_before_prompts: dict[int, RunLengthMask]
) -> ObjectState:
    """An `ObjectState` out of its row's ``state`` and its masks.

    Raises:
        ValueError: the state is damaged.
        KeyError: a field is missing.
    """
    fields = json.loads(state)
    return ObjectState(
        object_id,
        prompts_by_frame(prompt_from_json(object_id, prompt) for prompt in fields["prompts"]),
        masks,
        set(frames_from_text(fields["stale"])),
        masks_before_prompts,
        fields["round_index"],
        set(frames_from_text(fields["interaction_frames"])),
    )


def mask_values(object_id: int, frame_index: int, known: FrameMask) -> Values:
    """A `MaskRow`."""
    return {
        "object_id": object_id,
        "frame_index": frame_index,
        "height_px": known.raw.height_px,
        "width_px": known.raw.width_px,
        "own": known.raw.counts,
        "shown": None if known.resolved == known.raw else known.resolved.counts,
        "score": float(known.score),
        "prompted": bool(known.prompted),
        "soft": None if known.soft is None else known.soft.data,
        "uncertainty": None if known.uncertainty is None else float(known.uncertainty),
        "agreement": None if known.agreement is None else float(known.agreement),
    }


def read_mask(row: Any) -> FrameMask:
    """A `FrameMask` out of a `MaskRow`."""
    size_hw_px = row.height_px, row.width_px
    own = RunLengthMask(*size_hw_px, bytes(row.own))
    shown = own if row.shown is None else RunLengthMask(*size_hw_px, bytes(row.shown))
    soft = None if row.soft is None else SoftMask(*size_hw_px, bytes(row.soft))
    return FrameMask(own, shown, row.score, row.prompted, soft, row.uncertainty, row.agreement)


def before_values(object_id: int, frame_index: int, mask: RunLengthMask) -> Values:
    """A `BeforePromptsRow`."""
    place = {"object_id": object_id, "frame_index": frame_index}
    return {**place, "height_px": mask.height_px, "width_px": mask.width_px, "counts": mask.counts}


def prompt_values(position: int, prompt: PromptRecord) -> Values:
    """A `PromptRow`; ``position`` keeps the order."""
    names = {"region_id": prompt.region_id, "label": prompt.label, "kind": prompt.kind}
    return {"position": position, **names, "raw": json.dumps(prompt.raw)}


def round_values(record: RoundRecord) -> Values:
    """A `RoundRow`."""
    return {
        "number": record.number,
        "started_at_s": record.started_at_s,
        "object_ids": json.dumps(record.object_ids),
        "prompt_ids": json.dumps(record.prompt_ids),
        "n_masks": record.n_masks,
        "finished": record.finished,
    }


def read_round(row: Any) -> RoundRecord:
    """A `RoundRecord` out of a `RoundRow`."""
    asked = tuple(json.loads(row.object_ids)), tuple(json.loads(row.prompt_ids))
    return RoundRecord(row.number, row.started_at_s, *asked, row.n_masks, row.finished)


def editor_copy_values(mask_id: str, copy: EditorCopy) -> Values:
    """An `EditorCopyRow`."""
    saved_in = b"".join(_DIGEST_AND_ROUND.pack(digest, number) for digest, number in copy.saved_in.items())
    return {"mask_id": mask_id, "present": copy.present, "delivered_in": copy.delivered_in, "saved_in": saved_in}


def read_editor_copy(row: Any) -> EditorCopy:
    """An `EditorCopy` out of an `EditorCopyRow`.

    Raises:
        ValueError: its digests are cut off.
    """
    saved_in = bytes(row.saved_in)
    if len(saved_in) % _DIGEST_AND_ROUND.size:
        raise ValueError(f"the stored editor copy of the mask {row.mask_id!r} is cut off: {len(saved_in)} bytes")
    return EditorCopy(row.present, row.delivered_in, dict(_DIGEST_AND_ROUND.iter_unpack(saved_in)))


def editor_to_json(editor: EditorRecord) -> str:
    """An `EditorRecord` without its copies."""
    echoed = {label: sorted(prompt_ids) for label, prompt_ids in editor.echoed.items()}
    answers = {"answered_in": dict(editor.answered_in), "answered_at_s": editor.answered_at_s}
    return json.dumps({"echoed": echoed, **answers})


def editor_from_json(text: str, copies: Iterable[tuple[str, EditorCopy]] = ()) -> EditorRecord:
    """The way back, with the copies by mask id.

    Raises:
        ValueError: the text is damaged.
        KeyError: a field is missing.
    """
    fields = json.loads(text)
    echoed = {label: frozenset(prompt_ids) for label, prompt_ids in fields["echoed"].items()}
    return EditorRecord(echoed, fields["answered_in"], fields["answered_at_s"], dict(copies))
