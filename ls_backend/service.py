"""What /predict and /setup do, without HTTP: a checked request in, Label Studio's answer out."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from ls_backend.errors import PromptError, TaskError, UnknownTaskError
from ls_backend.label_studio.annotation_repairs import UnseenFrames
from ls_backend.label_studio.connections import Connections
from ls_backend.label_studio.media import MediaFetcher, TaskFrames, frame_urls
from ls_backend.method_provider import MethodProvider
from ls_backend.protocol.label_config import LabelConfig, parse_label_config
from ls_backend.protocol.payloads import Json, PredictRequest, SetupRequest, SuggestionsRequest, TaskPayload
from ls_backend.protocol.prompts import SENT_KINDS, LabelPrompt, ReadPrompts, read_prompts, to_pipeline
from ls_backend.protocol.regions import mask_region, sdk_codec
from ls_backend.protocol.request_context import Evidence, read_evidence
from ls_backend.sessions.label_masks import LabelMask
from ls_backend.sessions.next_frames import next_frames, note_region
from ls_backend.sessions.repository import SessionKeeper, SessionRegistry, StoredTask
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from pipeline.session.session import Session
from pipeline.types import Prompt
from pipeline.video.frames import FrameError

logger = logging.getLogger(__name__)
MAX_PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class _Usable:
    """The prompts of some labels that the pipeline can use, and one sentence for each that it cannot."""

    prompts: tuple[Prompt, ...]
    problems: tuple[str, ...]


class PredictionService:
    """Everything that lives as long as the process: weights, sessions, caches, connections. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        sdk_codec()
        self._methods = MethodProvider(settings)
        self._connections = Connections(settings, settings.cache_dir / "connections.json")
        self._media = MediaFetcher(settings, settings.cache_dir / "frames")
        self._keeper = SessionKeeper.of_settings(settings)
        self._sessions = SessionRegistry(settings.max_sessions, settings.session_ram_mib, self._keeper)
        self._unseen_frames = UnseenFrames(self._sessions, self._keeper, self._connections)
        self._round_slots = threading.Semaphore(settings.parallel_rounds)

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
        config = parse_label_config(request.label_config)
        context = request.params.context
        if context is None:
            return [self._known_masks(request.project, task, config) for task in request.tasks]
        if len(request.tasks) != 1:
            raise TaskError(f"an interactive request is about one task, but {len(request.tasks)} arrived")
        return [self._round(request.project, request.tasks[0], config, context.result)]

    def suggestions(self, request: SuggestionsRequest) -> list[Json]:
        """Where to correct next, per open annotation of a task, the latest used first. Never waits for a round.

        Raises:
            UnknownTaskError: nobody has prompted the task since the backend started, or that was too long ago.
        """
        sessions = self._sessions.of_task((_project_id(request.project), request.task))
        if not sessions:
            raise UnknownTaskError(
                f"expected a task with an open session, but task {request.task} of project {request.project} has none: "
                "it opens, with what is stored of it, when the annotator next clicks or draws a box"
            )
        return [
            {
                "model_version": session.model_version,
                "is_computing": session.is_busy,
                "suggestions": next_frames(session, request.count),
            }
            for session in sessions
        ]

    def webhook(self, event: Json) -> None:
        """Take an event of Label Studio. Returns at once."""
        if event.get("action") in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
            self._unseen_frames.annotation_saved(event)

    def close(self) -> None:
        """Store what is not stored yet, release connections and caches, and stop a download."""
        self._keeper.close()
        self._methods.close()
        self._unseen_frames.close()
        self._media.close()

    def _known_masks(self, project: str, task: TaskPayload, config: LabelConfig) -> Json:
        key = _project_id(project), task.id
        known: TaskSession | StoredTask | None = next(iter(self._sessions.of_task(key)), None)
        if known is None:
            known = next(self._keeper.stored(key, config), None)
        if known is None:
            return self._answer([], (), None, config, ())
        prompts = [prompt for label in known.labels().values() for prompt in known.prompts(label)]
        echoes = [prompt.echo() for prompt in prompts if prompt.kind in SENT_KINDS]
        return self._answer(echoes, known.all_masks(), known.model_version, config, ())

    def _round(self, project: str, task: TaskPayload, config: LabelConfig, regions: list[Json]) -> Json:
        context = read_prompts(regions, config)
        if not context.prompts:
            if context.problems:
                raise PromptError("; ".join(context.problems))
            return self._answer(regions, (), None, config, ())
        evidence = read_evidence(task, context, config)
        session = self._open(project, task, config, evidence)
        size_hw_px = _size(task, session)
        session.catch_up(context, evidence)
        labels = session.take_prompts(context, evidence)
        usable = self._usable(session, labels, size_hw_px)
        object_ids = [session.object_id(label) for label in labels]
        number, job = session.start_round(
            lambda cancelled: session.pipeline.run_round(usable.prompts, object_ids=object_ids, cancelled=cancelled),
            name=f"task {task.id}",
            slots=self._round_slots,
            labels=labels,
        )
        if not job.wait(self.settings.response_budget_s):
            logger.info("task %s: the round goes on in the background; its masks come with the next answer", task.id)
        unread = evidence.strokes.problems if evidence.strokes is not None else ()
        problems = (*context.problems, *unread, *usable.problems, *self._frame_problems(task, session))
        masks = session.changed_masks(number)
        echoes = [*_echo_all(regions, context), *session.taken_over(config), *note_region(session, config)]
        return self._answer(echoes, masks, session.model_version, config, problems)

    def _open(self, project: str, task: TaskPayload, config: LabelConfig, evidence: Evidence) -> TaskSession:
        urls = frame_urls(task, config.frames_field)
        project_id = _project_id(project)

        def open_session() -> TaskSession:
            frames = TaskFrames(urls, self._media, self._connections.auth(project_id))
            served = self._methods.current
            return TaskSession(frames, Session(frames, served.method), served.model_version)

        try:
            return self._sessions.find_or_open((project_id, task.id), urls, evidence, open_session, config)
        except FrameError as error:
            raise _unreadable(task, error) from error

    def _usable(self, session: TaskSession, labels: tuple[str, ...], size_hw_px: tuple[int, int]) -> _Usable:
        prompts: list[Prompt] = []
        problems: list[str] = []
        for label in labels:
            for prompt in session.prompts(label):
                try:
                    prompts.append(to_pipeline(prompt, session.object_id(label), size_hw_px, len(session.frames)))
                except PromptError as error:
                    problems.append(str(error))
        if not prompts:
            raise PromptError("; ".join(problems))
        return _Usable(tuple(prompts), tuple(problems))

    def _frame_problems(self, task: TaskPayload, session: TaskSession) -> tuple[str, ...]:
        errors = dict(session.pipeline.frame_errors)
        if len(errors) == len(session.frames):
            raise TaskError(f"task {task.id}: not one frame can be read; the first: {next(iter(errors.values()))}")
        return tuple(f"frame {frame_index}: {reason}" for frame_index, reason in sorted(errors.items()))

    def _answer(
        self,
        echoes: list[Json],
        masks: tuple[LabelMask, ...],
        model_version: str | None,
        config: LabelConfig,
        problems: tuple[str, ...],
    ) -> Json:
        for problem in problems[:MAX_PROBLEMS_SHOWN]:
            logger.warning("%s", problem)
        result = list(echoes)
        for mask in masks:
            size_hw_px = mask.mask.height_px, mask.mask.width_px
            result.append(mask_region(config, mask.label, mask.frame_index, size_hw_px, mask.brush_rle, mask.score))
        score = sum(mask.score for mask in masks) / len(masks) if masks else 0.0
        version = {"model_version": model_version or self.model_version}
        return {"result": result, "score": score, **version, "warnings": list(problems)}


def _echo_all(regions: list[Json], context: ReadPrompts) -> list[Json]:
    """Every region of the request, marked where it was understood: what is not echoed, Label Studio deletes."""
    by_id: dict[object, LabelPrompt] = {prompt.region_id: prompt for prompt in context.prompts}
    return [by_id[raw.get("id")].echo() if raw.get("id") in by_id else raw for raw in regions]


def _project_id(project: str) -> str:
    """Label Studio names a project ``id.timestamp``; the id alone is what stays."""
    return project.split(".")[0]


def _size(task: TaskPayload, session: TaskSession) -> tuple[int, int]:
    try:
        return session.frames.size_hw_px
    except FrameError as error:
        raise _unreadable(task, error) from error


def _unreadable(task: TaskPayload, error: FrameError) -> TaskError:
    return TaskError(f"task {task.id}: not one frame can be read; the first: {error}")
