"""What /predict and /setup do, without HTTP: a checked request in, Label Studio's answer out."""

from __future__ import annotations

import itertools
import logging
import threading

from ls_backend.errors import PromptError, TaskError, UnknownTaskError
from ls_backend.label_studio.annotation_repairs import AnnotationRepairs
from ls_backend.label_studio.connections import Connections
from ls_backend.label_studio.media import MediaFetcher, TaskFrames, frame_urls
from ls_backend.method_provider import MethodProvider
from ls_backend.protocol.label_config import LabelConfig, parse_label_config
from ls_backend.protocol.payloads import Json, PredictRequest, SetupRequest, SuggestionsRequest, TaskPayload
from ls_backend.protocol.prompts import SENT_KINDS, LabelPrompt
from ls_backend.protocol.regions import LabelMask, look_next_region, mask_region, sdk_codec
from ls_backend.protocol.request_context import RequestContext, read_request_context
from ls_backend.protocol.strokes import emptied_region
from ls_backend.sessions.repository import SessionRepository
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from pipeline.session.session import Session
from pipeline.video.frames import FrameError

logger = logging.getLogger(__name__)
MAX_PROBLEMS_SHOWN = 10
N_PLACES_SHOWN = 3
"""The line that says where to look next names this many frames."""


class PredictionService:
    """Everything that lives as long as the process: weights, sessions, caches, connections. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        sdk_codec()
        self._methods = MethodProvider(settings)
        self._connections = Connections(settings, settings.cache_dir / "connections.json")
        self._media = MediaFetcher(settings, settings.cache_dir / "frames")
        self._sessions = SessionRepository.of_settings(settings)
        self._repairs = AnnotationRepairs(self._sessions, self._connections)
        self._round_slots = threading.Semaphore(settings.parallel_rounds)
        self._request_numbers = itertools.count(1)

    @property
    def model_version(self) -> str:
        """Method and segmenter of tasks opened now."""
        return self._methods.current.model_version

    def setup(self, request: SetupRequest) -> Json:
        """Remember the project's Label Studio; check nothing, because Label Studio repeats this at every page load."""
        self._connections.learn(_project_id(request.project), request.hostname, request.access_token)
        return {"model_version": self.model_version}

    def predict(self, request: PredictRequest) -> list[Json]:
        """One prediction per task, in order.

        Raises:
            RequestError: the config, the task or every prompt is unusable. What was known before stays.
        """
        number = next(self._request_numbers)
        config = parse_label_config(request.label_config)
        context = request.params.context
        if context is None:
            return [self._known_masks(request.project, task, config) for task in request.tasks]
        if len(request.tasks) != 1:
            raise TaskError(f"an interactive request is about one task, but {len(request.tasks)} arrived")
        return [self._round(request.project, request.tasks[0], config, context.result, number)]

    def suggestions(self, request: SuggestionsRequest) -> list[Json]:
        """Where to correct next, per open annotation of a task, the latest used first. Never waits for a round.

        Raises:
            UnknownTaskError: nobody has prompted the task since the backend started, or that was too long ago.
        """
        sessions = self._sessions.open_sessions((_project_id(request.project), request.task))
        if not sessions:
            raise UnknownTaskError(
                f"expected a task with an open session, but task {request.task} of project {request.project} has none: "
                "it opens, with what is stored of it, when the annotator next clicks or draws a box"
            )
        return [
            {
                "model_version": session.model_version,
                "is_computing": session.is_busy,
                "suggestions": session.places_to_look(request.count),
            }
            for session in sessions
        ]

    def webhook(self, event: Json) -> None:
        """Take an event of Label Studio. Returns at once."""
        if event.get("action") in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
            self._repairs.annotation_saved(event)

    def close(self) -> None:
        """Store what is not stored yet, release connections and caches, and stop a download."""
        self._sessions.close()
        self._methods.close()
        self._repairs.close()
        self._media.close()

    def _known_masks(self, project: str, task: TaskPayload, config: LabelConfig) -> Json:
        """Prompts and masks of the latest session of a task, as they are now."""
        session = next(self._sessions.all_sessions((_project_id(project), task.id), config), None)
        if session is None:
            return self._answer([], (), None, config, ())
        prompts = [prompt for label in session.labels() for prompt in session.prompts(label)]
        echoes = [prompt.echo() for prompt in prompts if prompt.kind in SENT_KINDS]
        return self._answer(echoes, session.all_masks(), session.model_version, config, ())

    def _round(self, project: str, task: TaskPayload, config: LabelConfig, regions: list[Json], number: int) -> Json:
        """One click: its prompts echoed, and the masks that a round with them changed."""
        context = read_request_context(task, regions, config, number)
        if not context.prompts:
            if context.problems:
                raise PromptError("; ".join(context.problems))
            return self._answer(regions, (), None, config, ())
        name = f"task {task.id}"
        try:
            session = self._open(project, task, config, context)
            session.frames.size_hw_px  # noqa: B018  # Fetched here at first use, while no lock is held.
        except FrameError as error:
            raise TaskError(f"{name}: not one frame can be read; the first: {error}") from error
        answer = session.answer(context, self._round_slots, self.settings.response_budget_s, name)
        if not answer.is_complete:
            logger.info("%s: the round continues in the background; its masks come with the next answer", name)
        returned = _echoes(regions, context)
        returned += [emptied_region(painted_id, prompt, config) for painted_id, prompt in answer.emptied.items()]
        if config.has_next:
            returned.append(look_next_region(config, session.places_to_look(N_PLACES_SHOWN)))
        unread = context.strokes.problems if context.strokes is not None else ()
        problems = (*context.problems, *unread, *answer.problems)
        return self._answer(returned, answer.masks, session.model_version, config, problems)

    def _open(self, project: str, task: TaskPayload, config: LabelConfig, context: RequestContext) -> TaskSession:
        urls = frame_urls(task, config.frames_field)
        project_id = _project_id(project)

        def open_session() -> TaskSession:
            frames = TaskFrames(urls, self._media, self._connections.auth(project_id))
            served = self._methods.current
            return TaskSession(frames, Session(frames, served.method), served.model_version)

        return self._sessions.find_or_open((project_id, task.id), urls, context, open_session, config)

    def _answer(
        self,
        regions: list[Json],
        masks: tuple[LabelMask, ...],
        model_version: str | None,
        config: LabelConfig,
        problems: tuple[str, ...],
    ) -> Json:
        for problem in problems[:MAX_PROBLEMS_SHOWN]:
            logger.warning("%s", problem)
        result = list(regions)
        for mask in masks:
            size_hw_px = mask.mask.height_px, mask.mask.width_px
            result.append(mask_region(config, mask.label, mask.frame_index, size_hw_px, mask.brush_rle, mask.score))
        score = sum(mask.score for mask in masks) / len(masks) if masks else 0.0
        version = {"model_version": model_version or self.model_version}
        return {"result": result, "score": score, **version, "warnings": list(problems)}


def _echoes(regions: list[Json], context: RequestContext) -> list[Json]:
    """Every region of the request, marked if it was understood: Label Studio deletes what does not come back."""
    by_id: dict[object, LabelPrompt] = {prompt.region_id: prompt for prompt in context.prompts}
    return [by_id[raw.get("id")].echo() if raw.get("id") in by_id else raw for raw in regions]


def _project_id(project: str) -> str:
    """Label Studio names a project ``id.timestamp``; the id alone is what stays."""
    return project.split(".")[0]
