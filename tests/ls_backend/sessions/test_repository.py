"""Which sessions are kept, and how much they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ls_backend.label_studio.connections import LabelStudioAuth
from ls_backend.label_studio.media import MediaFetcher, TaskFrames
from ls_backend.protocol.label_config import parse_label_config, recommended_label_config
from ls_backend.protocol.request_context import RequestContext
from ls_backend.sessions.repository import SessionRepository, open_database
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from ls_backend.store.session_store import SessionStore
from pipeline.methods.choice import MethodChoice
from pipeline.session.session import Session
from pipeline.video.sample_clip import SampleClip
from tests.built_methods import built
from tests.ls_backend.test_service import Editor, box_around, clip, editor, service

__all__ = ["clip", "editor", "service"]
NOTHING = RequestContext()
CONFIG = parse_label_config(recommended_label_config(["obj1"]))
URLS = ("/a.png",)


def idle_session(settings: Settings) -> TaskSession:
    """A session nobody has prompted."""
    frames = TaskFrames(URLS, MediaFetcher(settings, settings.cache_dir / "frames"), LabelStudioAuth("", ""))
    method = built(MethodChoice(segmenter="lite", box_tracker="mask_box"), embedding_ram_mib=16)
    return TaskSession(frames, Session(frames, method))


@pytest.fixture
def new_repository(settings: Settings) -> Iterator[Callable[[int], SessionRepository]]:
    """Makes a repository that keeps so many sessions open."""
    made: list[SessionRepository] = []

    def make(max_sessions: int) -> SessionRepository:
        made.append(SessionRepository(SessionStore(open_database(settings), 16), max_sessions, limit_mib=16))
        return made[-1]

    yield make
    for repository in made:
        repository.close()


def test_the_least_recently_used_session_goes_first(
    settings: Settings, new_repository: Callable[[int], SessionRepository]
) -> None:
    repository = new_repository(2)
    opened = {
        task: repository.find_or_open(("5", task), URLS, NOTHING, lambda: idle_session(settings), CONFIG)
        for task in ("1", "2", "3")
    }
    assert repository.open_sessions(("5", "1")) == ()
    assert repository.open_sessions(("5", "2")) == (opened["2"],)
    assert repository.open_sessions(("5", "3")) == (opened["3"],)


def test_other_frames_in_a_task_need_another_session(
    settings: Settings, new_repository: Callable[[int], SessionRepository]
) -> None:
    repository = new_repository(8)
    first = repository.find_or_open(("5", "1"), URLS, NOTHING, lambda: idle_session(settings), CONFIG)
    other_urls = ("/b.png",)
    assert repository.find_or_open(("5", "1"), other_urls, NOTHING, lambda: idle_session(settings), CONFIG) is not first


def test_sessions_hold_no_more_memory_than_they_may(
    editor: Editor, clip: SampleClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    repository = editor.service._sessions
    (session,) = repository.open_sessions(("5", "7"))
    frame_bytes = clip.frames[0].nbytes
    assert session.held_bytes > len(clip.frames) * frame_bytes, "frames and masks are counted"
    monkeypatch.setattr(repository, "_limit_bytes", int(1.5 * session.held_bytes))
    other = Editor(editor.service, editor.urls, task_id=8)
    other.prompt(box_around(clip, 0, 1, "obj1"))
    # It is the next request that finds both too large.
    Editor(editor.service, editor.urls, task_id=9).prompt(box_around(clip, 0, 1, "obj1"))
    assert repository.open_sessions(("5", "7")) == ()
    assert len(repository.open_sessions(("5", "9"))) == 1
