"""What is stored of a session, as frozen dataclasses. Times are in seconds since 1970."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ls_backend.protocol.payloads import Json
from pipeline.session.object_state import ObjectState


@dataclass(frozen=True)
class PromptRecord:
    """A prompt as it was received: the region that Label Studio sent, or what this backend recorded of a stroke."""

    label: str
    kind: str
    region_id: str
    raw: Json


@dataclass(frozen=True)
class RoundRecord:
    """One round: its start, its objects and prompts, how many masks it has made so far, and whether it finished."""

    number: int
    started_at_s: float
    object_ids: tuple[int, ...]
    prompt_ids: tuple[str, ...]
    n_masks: int = 0
    finished: bool = False


@dataclass(frozen=True)
class EditorCopy:
    """The editor's copy of one mask, as far as it is known; see `ls_backend.sessions.editor_state`.

    Attributes:
        present: whether the editor has the mask of the same record.
        delivered_in: the round whose answer contained the newest version; 0 for none.
        saved_in: for each version that a draft or annotation contained, by digest, the round before which it was seen.
    """

    present: bool
    delivered_in: int = 0
    saved_in: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EditorRecord:
    """The annotator's editor, as far as it is known: prompt ids by label, their rounds, and copies of masks by id."""

    echoed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    answered_in: Mapping[str, int] = field(default_factory=dict)
    answered_at_s: float = 0.0
    copies: Mapping[str, EditorCopy] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionRecord:
    """A session at one moment. ``labels`` maps labels to object ids; ``objects`` lacks those without a round yet."""

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
    """A digest of a task's frames: the same addresses in the same order give the same digest."""
    digest = hashlib.blake2b(digest_size=16)
    for url in urls:
        digest.update(url.encode())
        digest.update(b"\n")
    return digest.hexdigest()
