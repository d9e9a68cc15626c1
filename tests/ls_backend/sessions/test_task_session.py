"""Requests of one annotation that meet: the newer one's prompts win, whichever thread is faster."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ls_backend.label_studio.media import TaskFrames
from ls_backend.protocol.label_config import parse_label_config
from ls_backend.protocol.request_context import RequestContext, read_request_context
from ls_backend.sessions import task_session
from ls_backend.sessions.rounds import RoundJob
from ls_backend.sessions.task_session import TaskSession
from pipeline.types import FrameRGB
from pipeline.video.sample_clip import SampleClip
from tests.ls_backend.test_service import CONFIG, Editor, box_around, click_on, clip, editor, service

__all__ = ["clip", "editor", "service"]
BLOCKED_S = 0.5
"""So long the older request is held up where the newer one cannot get ahead of it."""


class Requests:
    """Two requests of one annotation: a click, and the click with another one. Each is sent by a thread of its own."""

    def __init__(self, editor: Editor, clip: SampleClip) -> None:
        self.editor = editor
        clicks = [click_on(clip, 0, 1, "obj1", "p1"), click_on(clip, 3, 1, "obj1", "p2")]
        self.older_is_held_up, self.newer_is_answered = threading.Event(), threading.Event()
        self.n_answers = 0
        self.older = threading.Thread(target=self._send, args=(clicks[:1],))
        self.newer = threading.Thread(target=self._send, args=(clicks,))

    def _send(self, clicks: list[dict[str, Any]]) -> None:
        self.editor.service.predict(self.editor.request({"result": clicks}))
        self.n_answers += 1
        if threading.current_thread() is self.newer:
            self.newer_is_answered.set()

    def run(self) -> TaskSession:
        """Send the newer one once the older one is held up; returns their session when both are answered."""
        self.older.start()
        assert self.older_is_held_up.wait(30)
        self.newer.start()
        for thread in (self.older, self.newer):
            thread.join(30)
        assert self.n_answers == 2
        (session,) = self.editor.service._sessions.open_sessions(("5", str(self.editor.task_id)))
        at_rest(session)
        return session


@pytest.fixture
def requests(editor: Editor, clip: SampleClip) -> Requests:
    return Requests(editor, clip)


def at_rest(session: TaskSession) -> None:
    deadline_s = time.monotonic() + 30
    while session.is_busy:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def clicked_frames(session: TaskSession, label: str = "obj1") -> list[int]:
    """The frames of the prompts that the pipeline has of a label."""
    return [prompt.frame_index for prompt in session.pipeline.prompts(session.object_id(label))]


def test_an_older_request_does_not_start_its_round_after_a_newer_one(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one has taken its prompts and is held up; without one lock, the newer one would get ahead of it."""
    newer_started = threading.Event()
    convert, start = task_session.to_pipeline, RoundJob.start

    def slow_conversion(*args: Any) -> Any:
        if threading.current_thread() is requests.older:
            requests.older_is_held_up.set()
            newer_started.wait(BLOCKED_S)
        return convert(*args)

    def noted_start(job: RoundJob) -> None:
        start(job)
        if threading.current_thread() is requests.newer:
            newer_started.set()

    monkeypatch.setattr(task_session, "to_pipeline", slow_conversion)
    monkeypatch.setattr(RoundJob, "start", noted_start)
    session = requests.run()
    assert clicked_frames(session) == [0, 3]
    assert [record.prompt_ids for record in session._log.records()] == [("p1",), ("p1", "p2")]


def test_an_older_request_that_arrives_late_changes_nothing(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for its first frame until the newer one is answered."""
    read = TaskFrames.read

    def slow_read(frames: TaskFrames, frame_index: int) -> FrameRGB:
        if threading.current_thread() is requests.older:
            requests.older_is_held_up.set()
            assert requests.newer_is_answered.wait(30)
        return read(frames, frame_index)

    monkeypatch.setattr(TaskFrames, "read", slow_read)
    session = requests.run()
    assert clicked_frames(session) == [0, 3]
    assert [record.prompt_ids for record in session._log.records()] == [("p1", "p2")]


class LateSlots(threading.Semaphore):
    """Slots that a round gets only when ``opened`` is set."""

    def __init__(self) -> None:
        super().__init__(1)
        self.opened = threading.Event()

    def __enter__(self) -> bool:
        assert self.opened.wait(30)
        return super().__enter__()


@pytest.mark.parametrize("label", ["obj1", "obj 2"])
def test_a_round_that_begins_after_a_newer_one_does_not_bring_its_prompts_back(
    editor: Editor, clip: SampleClip, label: str
) -> None:
    editor.prompt(box_around(clip, 5, 1, "obj1"))
    (session,) = editor.service._sessions.open_sessions(("5", str(editor.task_id)))

    def request(number: int, *regions: dict[str, Any]) -> RequestContext:
        task = editor.request({"result": list(regions)}).tasks[0]
        return read_request_context(task, list(regions), parse_label_config(CONFIG), number)

    late, soon = LateSlots(), threading.Semaphore(1)
    first, second = click_on(clip, 0, 1, "obj1", "p1"), click_on(clip, 3, 1, label, "p2")
    waiting = session.answer(request(2, first), late, budget_s=0.0)
    assert not waiting.is_complete
    rounds = [session._round]
    newer = request(3, first, second) if label == "obj1" else request(3, second)
    assert session.answer(newer, soon, budget_s=30).is_complete
    late.opened.set()
    assert rounds[0] is not None
    assert rounds[0].job.wait(30)
    expected = {"obj1": [0, 3, 5] if label == "obj1" else [0, 5], label: [0, 3, 5] if label == "obj1" else [3]}
    assert {known: sorted(clicked_frames(session, known)) for known in session.labels()} == expected
    assert all(not session.pipeline.stale_frames(session.object_id(known)) for known in session.labels())
