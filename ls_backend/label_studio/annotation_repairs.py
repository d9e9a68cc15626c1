"""Restores masks that Label Studio drops when it saves.

Where an annotation was loaded from the server (reopened, or the page reloaded), Label Studio 1.23 saves a frame that
was not shown since as it was loaded, not as a later round made it, although the editor holds the new mask (its
``createSerializedResult`` prefers ``_rawResult`` while the frame's image is not loaded). The annotator sees nothing of
it. So after each save the stored masks are compared with the delivered ones, and outdated ones are replaced.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from ls_backend.label_studio.api import LabelStudioAPI, LabelStudioError
from ls_backend.label_studio.connections import Connections
from ls_backend.protocol.brush_regions import CHANGED_BY_HAND, brush_digest
from ls_backend.protocol.label_config import LabelConfig, parse_label_config
from ls_backend.protocol.payloads import Json
from ls_backend.protocol.prompts import SENT_KINDS, LabelPrompt, read_prompts
from ls_backend.sessions.repository import AnnotationSession, SessionRepository

logger = logging.getLogger(__name__)
MAX_WAITING = 64


def repaired_regions(result: list[Json], session: AnnotationSession, config: LabelConfig) -> list[Json] | None:
    """A saved annotation's regions with outdated masks replaced; None where there is nothing to do.

    A label is left alone unless its saved prompts are exactly those its masks follow from: otherwise rounds were
    undone, prompts deleted, or the annotation is another one. Strokes may be newer than the latest round, so of them
    only those that led to masks have to be there. A mask that was changed by hand is left alone always.
    """
    saved = read_prompts(result, config).prompts
    region_ids = {str(region.get("id")) for region in result}
    labels = session.labels()
    agreeing = {label for label in labels if _agrees(session.prompts(label), label, saved, region_ids)}
    regions = [_newer(region, session, agreeing) for region in result]
    return regions if regions != result else None


def _agrees(
    prompts: Collection[LabelPrompt], label: str, saved: Collection[LabelPrompt], region_ids: Collection[str]
) -> bool:
    given = {prompt.region_id for prompt in prompts if prompt.kind in SENT_KINDS}
    drawn_in = {prompt.brush_region for prompt in prompts if prompt.kind == "scribble"}
    same = given == {prompt.region_id for prompt in saved if prompt.label == label}
    return bool(prompts) and same and drawn_in <= set(region_ids)


def _newer(region: Json, session: AnnotationSession, labels: set[str]) -> Json:
    digest = brush_digest(region)
    mask = session.newer_mask(str(region.get("id")), digest) if digest else None
    if mask is None or mask.label not in labels or region.get("origin") == CHANGED_BY_HAND:
        return region
    value = {key: content for key, content in region["value"].items() if key != "touches"}
    return {**region, "score": mask.score, "value": {**value, "rle": list(mask.brush_rle)}}


class AnnotationRepairs:
    """Looks after saved annotations in the background: Label Studio's webhooks must be answered within a second.

    A webhook carries no credentials, so only ids are taken from it; the annotation is read with the project's token.
    """

    def __init__(self, sessions: SessionRepository, connections: Connections) -> None:
        self._sessions = sessions
        self._connections = connections
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="annotation-repairs")
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def annotation_saved(self, event: Json) -> None:
        """Take an ANNOTATION_CREATED or ANNOTATION_UPDATED event; others are ignored."""
        ids = [_id_of(event, "project", "id"), _id_of(event, "annotation", "task"), _id_of(event, "annotation", "id")]
        project_id, task_id, annotation_id = ids
        if not all(ids):
            return
        if not self._waiting.acquire(blocking=False):
            logger.warning("annotation %s was saved while %d others wait; not looked at", annotation_id, MAX_WAITING)
            return
        self._workers.submit(self._repair, project_id, task_id, int(annotation_id))

    def close(self) -> None:
        """Finish what is under way, drop the rest."""
        self._workers.shutdown(cancel_futures=True)

    def _repair(self, project_id: str, task_id: str, annotation_id: int) -> None:
        key = project_id, task_id
        try:
            if not self._sessions.knows(key):
                return
            connection = self._connections.connection(project_id)
            api = LabelStudioAPI(connection.host_url, connection.token)
            annotation = api.annotation(annotation_id)
            if str(annotation.get("task")) != task_id:
                return
            config = parse_label_config(str(api.project(int(project_id)).get("label_config")))
            for session in self._sessions.all_sessions(key, config):
                regions = repaired_regions(list(annotation.get("result") or []), session, config)
                if regions is not None:
                    api.update_annotation(annotation_id, regions)
                    logger.info(
                        "annotation %d: restored masks of frames that were not shown when saving", annotation_id
                    )
                    return
        except LabelStudioError as error:
            logger.warning("annotation %d could not be checked for unsaved masks: %s", annotation_id, error)
        except Exception:
            logger.exception("annotation %d could not be checked for unsaved masks", annotation_id)
        finally:
            self._waiting.release()


def _id_of(event: Json, entity: str, field: str) -> str:
    body = event.get(entity)
    value = body.get(field) if isinstance(body, dict) else None
    return str(value) if isinstance(value, int) else ""
