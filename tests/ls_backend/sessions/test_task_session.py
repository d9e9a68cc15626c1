"""Which sessions are kept, and how much they hold."""

from __future__ import annotations

import pytest

from ls_backend.label_studio.connections import LabelStudioAuth
from ls_backend.label_studio.media import MediaFetcher, TaskFrames
from ls_backend.protocol.prompts import ReadPrompts
from ls_backend.protocol.request_context import Evidence
from ls_backend.sessions.repository import SessionRegistry
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from pipeline.methods.choice import MethodChoice
from pipeline.session.session import Session
from pipeline.video.sample_clip import SampleClip
from tests.built_methods import built
from tests.ls_backend.test_service import Editor, box_around, clip, editor, service

__all__ = ["clip", "editor", "service"]
NOTHING = Evidence(frozenset(), frozenset(), {}, ReadPrompts((), ()))
URLS = ("/a.png",)


def idle_session(settings: Settings) -> TaskSession:
    """A session nobody has prompted."""
    frames = TaskFrames(URLS, MediaFetcher(settings, settings.cache_dir / "frames"), LabelStudioAuth("", ""))
    method = built(MethodChoice(segmenter="classical", box_tracker="mask_box"), embedding_ram_mib=16)
    return TaskSession(frames, Session(frames, method))


def test_the_least_recently_used_session_goes_first(settings: Settings) -> None:
    registry = SessionRegistry(max_sessions=2, limit_mib=16)
    opened = {
        task: registry.find_or_open(("5", task), URLS, NOTHING, lambda: idle_session(settings))
        for task in ("1", "2", "3")
    }
    assert registry.of_task(("5", "1")) == ()
    assert registry.of_task(("5", "2")) == (opened["2"],)
    assert registry.of_task(("5", "3")) == (opened["3"],)


def test_other_frames_in_a_task_need_another_session(settings: Settings) -> None:
    registry = SessionRegistry(max_sessions=8, limit_mib=16)
    first = registry.find_or_open(("5", "1"), URLS, NOTHING, lambda: idle_session(settings))
    assert registry.find_or_open(("5", "1"), ("/b.png",), NOTHING, lambda: idle_session(settings)) is not first


def test_sessions_hold_no_more_memory_than_they_may(
    editor: Editor, clip: SampleClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    registry = editor.service._sessions
    (session,) = registry.of_task(("5", "7"))
    frame_bytes = clip.frames[0].nbytes
    assert session.held_bytes > len(clip.frames) * frame_bytes, "frames and masks are counted"
    monkeypatch.setattr(registry, "_limit_bytes", int(1.5 * session.held_bytes))
    other = Editor(editor.service, editor.urls, task_id=8)
    other.prompt(box_around(clip, 0, 1, "obj1"))
    # It is the next request that finds both too large.
    Editor(editor.service, editor.urls, task_id=9).prompt(box_around(clip, 0, 1, "obj1"))
    assert registry.of_task(("5", "7")) == ()
    assert len(registry.of_task(("5", "9"))) == 1
