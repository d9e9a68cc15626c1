"""What the store keeps of a session, as plain frozen data. Times are seconds since 1970."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ls_backend.protocol.payloads import Json
from pipeline.session.object_state import ObjectState


@dataclass(frozen=True)
class PromptRecord:
    """A prompt in the form it is read from: the region as Label Studio sent it, or this backend's note of a stroke."""

    label: str
    kind: str
    region_id: str
    raw: Json


@dataclass(frozen=True)
class RoundRecord:
    """One round: when it began, what it was asked, how many masks it made so far, whether it ran to its end."""

    number: int
    started_at_s: float
    object_ids: tuple[int, ...]
    prompt_ids: tuple[str, ...]
    n_masks: int = 0
    finished: bool = False


@dataclass(frozen=True)
class EditorCopy:
    """What is known of the editor's copy of one mask; see `ls_backend.sessions.editor_state`.

    Attributes:
        present: whether the editor has the mask that is in the same record.
        delivered_in: the round whose answer brought the newest version; 0 for none.
        saved_in: per digest of a version that draft or annotation held, the round before which it was seen.
    """

    present: bool
    delivered_in: int = 0
    saved_in: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EditorRecord:
    """What is known of the annotator's editor: prompt ids by label and round, and its copies of the masks by id."""

    echoed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    answered_in: Mapping[str, int] = field(default_factory=dict)
    answered_at_s: float = 0.0
    copies: Mapping[str, EditorCopy] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionRecord:
    """A session between two moments. ``labels`` gives object ids; an object without prompts yet has no entry."""

    project: str
    task: str
    urls_digest: str
    model_version: str
    opened_at_s: float
    used_at_s: float
    newest_round: int
    labels: Mapping[str, int]
    prompts: tuple[PromptRecord, ...]
    editor: EditorRecord
    objects: Mapping[int, ObjectState]
    rounds: tuple[RoundRecord, ...] = ()


def urls_digest(urls: Iterable[str]) -> str:
    """Tells apart the frames of tasks: the same addresses in the same order have the same digest."""
    digest = hashlib.blake2b(digest_size=16)
    for url in urls:
        digest.update(url.encode())
        digest.update(b"\n")
    return digest.hexdigest()
