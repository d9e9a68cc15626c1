"""Which annotation a request comes from. Label Studio names neither annotation nor annotator, so it is inferred.

Prompt ids are random and unique: an id that an answer echoed into one annotation appears in no other one. They are
found in the request itself (marked by the echo), in the requester's drafts (others' drafts are not sent), and in the
task's annotations, which may be other people's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ls_backend.protocol.brush_regions import brush_digest
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json, TaskPayload
from ls_backend.protocol.prompts import ReadPrompts, read_prompts
from ls_backend.protocol.strokes import Strokes, read_strokes


@dataclass(frozen=True)
class Evidence:
    """What a request shows of the annotation it comes from.

    ``prompt_ids`` are prompts of earlier rounds. ``saved_ids`` are all regions of its draft or annotation, as they were
    some seconds ago or longer. ``saved_masks`` are the digests of the masks among them, ``saved`` the prompts: what a
    restarted backend continues from. ``strokes`` is what the newest of the documents has of brush regions; None where
    the request shows no document. ``sent_ids`` are the prompts of the request itself, answered before or not.
    """

    prompt_ids: frozenset[str]
    saved_ids: frozenset[str]
    saved_masks: Mapping[str, bytes]
    saved: ReadPrompts
    strokes: Strokes | None = None
    sent_ids: frozenset[str] = frozenset()


def read_evidence(task: TaskPayload, context: ReadPrompts, config: LabelConfig) -> Evidence:
    """Find the draft or annotation that a request belongs to, and the prompts of earlier rounds in it."""
    marked = {prompt.region_id for prompt in context.prompts if prompt.is_echoed}
    documents = _documents(task, marked)
    regions = [region for document in documents for region in document]
    saved = read_prompts(regions, config)
    return Evidence(
        prompt_ids=frozenset(marked | {prompt.region_id for prompt in saved.prompts}),
        saved_ids=_ids(regions),
        saved_masks={str(region.get("id")): digest for region in regions if (digest := brush_digest(region))},
        saved=saved,
        strokes=read_strokes(documents[-1], config) if documents else None,
        sent_ids=frozenset(prompt.region_id for prompt in context.prompts),
    )


def _documents(task: TaskPayload, marked: set[str]) -> list[list[Json]]:
    """The drafts and annotations that share a prompt with the request; else the requester's drafts.

    With no draft, a task's only annotation is taken for the one being corrected: most projects ask for one per task. Of
    several, none can be told to be meant. The newest one comes last: a draft is newer than the annotation it continues.
    """
    documents = [saved.result for saved in (*task.annotations, *task.drafts)]
    shared = [regions for regions in documents if marked & _ids(regions)]
    return shared or [draft.result for draft in task.drafts] or (documents if len(documents) == 1 else [])


def _ids(regions: list[Json]) -> frozenset[str]:
    return frozenset(str(region.get("id")) for region in regions)
