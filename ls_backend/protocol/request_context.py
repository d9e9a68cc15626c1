"""What a /predict request asks, and which annotation it comes from.

Label Studio names neither annotation nor annotator, so both are inferred. Prompt ids are random and unique: an id that
an answer echoed into one annotation appears in no other one. Such ids are found in the request itself (marked by the
echo), in the requester's drafts (others' drafts are not sent), and in the task's annotations, which may be other
people's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ls_backend.protocol.brush_regions import brush_digests
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json, TaskPayload
from ls_backend.protocol.prompts import LabelPrompt, read_prompts
from ls_backend.protocol.strokes import Strokes, read_strokes


@dataclass(frozen=True)
class RequestContext:
    """The prompts of one request, and what it shows of the annotation it comes from.

    Attributes:
        number: requests are counted in the order of their arrival, from 1.
        prompts: the request's prompts: all that the editor has of their label and kind.
        problems: one sentence for each prompt of the request that cannot be used.
        earlier_ids: ids of the prompts of earlier rounds.
        saved_ids: ids of all regions of the draft or annotation. It was saved some seconds ago, or earlier.
        saved_masks: digests of the brush regions among these, by id.
        saved_prompts: the prompts among these; a restarted backend continues from them.
        strokes: the brush regions of the newest of these documents; None if the request shows no document.
    """

    number: int = 1
    prompts: tuple[LabelPrompt, ...] = ()
    problems: tuple[str, ...] = ()
    earlier_ids: frozenset[str] = frozenset()
    saved_ids: frozenset[str] = frozenset()
    saved_masks: Mapping[str, bytes] = field(default_factory=dict)
    saved_prompts: tuple[LabelPrompt, ...] = ()
    strokes: Strokes | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the request's prompts."""
        return tuple(dict.fromkeys(prompt.label for prompt in self.prompts))

    @property
    def new_ids(self) -> frozenset[str]:
        """Ids of the prompts that no answer has echoed yet: they are newer than anything that is saved."""
        return frozenset(prompt.region_id for prompt in self.prompts if not prompt.is_echoed)

    @property
    def echoed_ids(self) -> frozenset[str]:
        """Ids of the request's prompts that carry the mark of an echo."""
        return frozenset(prompt.region_id for prompt in self.prompts if prompt.is_echoed)

    @property
    def shown_ids(self) -> frozenset[str]:
        """Ids of all prompts that the request shows, in itself or in what is saved."""
        return self.earlier_ids | {prompt.region_id for prompt in self.prompts}


def read_request_context(task: TaskPayload, regions: list[Json], config: LabelConfig, number: int) -> RequestContext:
    """Read the prompts of a request, and find the draft or annotation that it belongs to.

    Args:
        task: the request's task with its drafts and annotations.
        regions: the prompts of the request, as they were sent.
        config: the project's labelling config.
        number: see `RequestContext`.
    """
    sent = read_prompts(regions, config)
    echoed = {prompt.region_id for prompt in sent.prompts if prompt.is_echoed}
    documents = _documents(task, echoed)
    saved_regions = [region for document in documents for region in document]
    saved = read_prompts(saved_regions, config).prompts
    digests = [brush_digests(document) for document in documents]
    return RequestContext(
        number=number,
        prompts=sent.prompts,
        problems=sent.problems,
        earlier_ids=frozenset(echoed | {prompt.region_id for prompt in saved}),
        saved_ids=_ids(saved_regions),
        saved_masks={region_id: digest for found in digests for region_id, digest in found.items()},
        saved_prompts=saved,
        strokes=read_strokes(documents[-1], config, digests[-1]) if documents else None,
    )


def _documents(task: TaskPayload, echoed: set[str]) -> list[list[Json]]:
    """The drafts and annotations that share a prompt with the request, the newest last; else the requester's drafts.

    If there is no draft either, a task's only annotation is taken for the one being corrected: most projects ask for
    one per task. With several annotations, none is chosen: nothing shows which one is meant. A draft is newer than the
    annotation that it continues.
    """
    documents = [saved.result for saved in (*task.annotations, *task.drafts)]
    shared = [regions for regions in documents if echoed & _ids(regions)]
    return shared or [draft.result for draft in task.drafts] or (documents if len(documents) == 1 else [])


def _ids(regions: list[Json]) -> frozenset[str]:
    return frozenset(str(region.get("id")) for region in regions)
