"""Where to correct next, and how sure the masks are, on the way to the annotator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ls_backend.errors import RequestError, UnknownTaskError
from ls_backend.protocol.payloads import SuggestionsRequest, parse
from ls_backend.service import PredictionService
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from pipeline.types import FrameResult
from pipeline.video.sample_clip import SampleClip
from tests.ls_backend.drawing import changed_by_hand, erased
from tests.ls_backend.test_service import (
    CONFIG,
    N_FRAMES,
    PROJECT,
    SIZE_HW_PX,
    Editor,
    box_around,
    click_on,
    clip,
    editor,
    masks,
    service,
)

__all__ = ["clip", "editor", "service"]
INSTANT_S = 0.5


def asked(editor: Editor, **changes: Any) -> list[dict[str, Any]]:
    """What GET /suggestions answers for the editor's task."""
    query = {"project": "5", "task": str(editor.task_id), **changes}
    return editor.service.suggestions(parse(SuggestionsRequest, query, "the query"))


def session_of(editor: Editor) -> TaskSession:
    return editor.service._sessions.open_sessions(("5", str(editor.task_id)))[0]


def notes(answer: dict[str, Any]) -> list[str]:
    """The lines beside "Look next" in an answer."""
    return [region["value"]["text"][0] for region in answer["result"] if region["type"] == "textarea"]


def test_a_place_is_named_as_the_editor_shows_it(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 2, 2, "obj 2"))
    (session,) = asked(editor, count=5)
    places = session["suggestions"]
    expected = session_of(editor).pipeline.suggestions(5)
    assert [place["frame_index"] for place in places] == [suggestion.frame_index for suggestion in expected]
    assert 2 not in {place["frame_index"] for place in places}, "that frame has a prompt"
    for place, suggestion in zip(places, expected, strict=True):
        assert place["label"] == "obj 2"
        assert place["ls_frame"] == place["frame_index"] + 1
        assert place["region_id"] in editor.regions
        assert place["x_pct"] == pytest.approx(suggestion.x_px / SIZE_HW_PX[1] * 100, abs=0.01)
        assert place["y_pct"] == pytest.approx(suggestion.y_px / SIZE_HW_PX[0] * 100, abs=0.01)
        assert place["positive"] is suggestion.positive
        assert place["gain"] == pytest.approx(suggestion.gain, abs=1e-4)
        assert place["score"] == editor.regions[place["region_id"]]["score"]


def test_as_many_as_were_asked_for(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert len(asked(editor, count=1)[0]["suggestions"]) == 1
    for count in ("0", "21", "many"):
        with pytest.raises(RequestError, match="count"):
            asked(editor, count=count)


def test_the_project_may_be_named_as_label_studio_does(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert asked(editor, project=PROJECT) == asked(editor)


@pytest.mark.parametrize("changes", [{"task": "8"}, {"project": "6"}])
def test_a_task_nobody_works_on_says_so(editor: Editor, clip: SampleClip, changes: dict[str, str]) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    with pytest.raises(UnknownTaskError, match=r"task \d of project \d has none: it opens") as caught:
        asked(editor, **changes)
    assert caught.value.status == 404


def test_every_annotation_of_a_task_has_its_own(
    editor: Editor, clip: SampleClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls_backend.sessions.editor_state.SAME_EDITOR_S", 0.0)
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    other = Editor(editor.service, editor.urls)
    other.prompt(box_around(clip, 5, 2, "obj 2", "b2"))
    newest, older = asked(editor)
    assert {place["label"] for place in newest["suggestions"]} == {"obj 2"}
    assert {place["label"] for place in older["suggestions"]} == {"obj1"}


def test_it_never_waits_for_a_round(editor: Editor, clip: SampleClip, monkeypatch: pytest.MonkeyPatch) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    session, go_on, begun = session_of(editor), threading.Event(), threading.Event()
    run_round = session.pipeline.run_round

    def slow_round(*args: Any, **keywords: Any) -> Iterator[FrameResult]:
        yield from run_round(*args, **keywords)
        with session.pipeline._round_lock:
            begun.set()
            go_on.wait(30)

    monkeypatch.setattr(session.pipeline, "run_round", slow_round)
    click = threading.Thread(target=editor.prompt, args=(click_on(clip, 3, 1, "obj1", "p1"),))
    click.start()
    try:
        assert begun.wait(30)
        started_s = time.monotonic()
        (found,) = asked(editor)
        assert time.monotonic() - started_s < INSTANT_S
        assert found["is_computing"]
        assert found["suggestions"]
    finally:
        go_on.set()
    click.join(30)
    assert not asked(editor)[0]["is_computing"]


def test_the_answer_says_where_to_look_next(editor: Editor, clip: SampleClip) -> None:
    answer = editor.prompt(box_around(clip, 0, 1, "obj1"))
    first, *others = asked(editor)[0]["suggestions"]
    (note,) = notes(answer)
    assert note.startswith(f"Frame {first['ls_frame']}, obj1, at {first['x_pct']:.0f} % across")
    assert note.endswith(f" Then {', '.join(str(place['ls_frame']) for place in others)}." if others else ").")
    (known,) = editor.service.predict(editor.request(None))
    assert notes(known) == [], "a stored prediction would say it for ever"


def test_a_project_without_a_place_for_it_gets_no_note(editor: Editor, clip: SampleClip) -> None:
    without = CONFIG.replace('name="next"', 'name="remarks"')
    request = editor.request({"result": [box_around(clip, 0, 1, "obj1")]})
    (answer,) = editor.service.predict(request.model_copy(update={"label_config": without}))
    assert notes(answer) == []
    assert len(masks(answer["result"], "obj1")) == N_FRAMES


def test_a_video_where_everything_is_done_says_so(editor: Editor, clip: SampleClip) -> None:
    boxes = [box_around(clip, index, 1, "obj1", f"b{index}") for index in range(N_FRAMES)]
    (answer,) = editor.service.predict(editor.request({"result": boxes}))
    assert asked(editor)[0]["suggestions"] == []
    assert notes(answer) == ["No frame stands out."]


def rescore(editor: Editor, by_frame: dict[int, float]) -> None:
    """Move the confidence of masks of the first object; the masks stay."""
    state = session_of(editor).pipeline._store.objects[1]
    for frame_index, step in by_frame.items():
        known = state.masks[frame_index]
        state.masks[frame_index] = replace(known, score=known.score + step)


def test_a_mask_whose_confidence_moved_far_is_sent_again(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    before = {region["id"]: region for region in editor.draft}
    rescore(editor, {3: -0.2, 4: -0.01})
    answer = editor.prompt(editor.regions["b1"])
    (sent,) = [region for region in answer["result"] if region["type"] == "brushlabels"]
    assert sent["id"] == "obj1-00003"
    assert sent["value"] == before["obj1-00003"]["value"]
    assert sent["score"] == pytest.approx(before["obj1-00003"]["score"] - 0.2, abs=1e-3)
    (known,) = editor.service.predict(editor.request(None))
    newest = {region["id"]: region["score"] for region in known["result"] if region["type"] == "brushlabels"}
    assert newest["obj1-00004"] == pytest.approx(before["obj1-00004"]["score"] - 0.01, abs=1e-3)
    editor.save()
    again = editor.prompt(editor.regions["b1"])
    assert masks(again["result"], "obj1") == {}, "once is enough"


def test_small_steps_add_up(editor: Editor, clip: SampleClip) -> None:
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    rescore(editor, {3: -0.03})
    assert masks(editor.prompt(editor.regions["b1"])["result"], "obj1") == {}
    rescore(editor, {3: -0.03})
    assert list(masks(editor.prompt(editor.regions["b1"])["result"], "obj1")) == [3]


def test_a_mask_made_by_hand_is_not_sent_for_its_score(editor: Editor, clip: SampleClip) -> None:
    """There may be strokes on it that are not saved yet."""
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.regions["obj1-00003"] = changed_by_hand(
        editor.regions["obj1-00003"], erased((0, 50), (100, 50), width_pct=8)
    )
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    rescore(editor, {3: -0.2})
    assert 3 not in masks(editor.prompt(editor.regions["p1"])["result"], "obj1")


def test_everything_that_is_returned_has_a_score(editor: Editor, clip: SampleClip) -> None:
    answer = editor.prompt(box_around(clip, 0, 1, "obj1"))
    scores = {region["id"]: region["score"] for region in answer["result"] if region["type"] != "textarea"}
    assert len(scores) == N_FRAMES + 1
    assert scores.pop("b1") == 1.0
    assert all(0 <= score <= 1 for score in scores.values())


def test_after_a_restart_they_come_with_the_first_click(editor: Editor, clip: SampleClip, settings: Settings) -> None:
    """What is only stored is not opened for a question: that would fetch frames, and may load a model."""
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    before = asked(editor)[0]["suggestions"]
    editor.save()
    editor.service.close()
    editor.service = PredictionService(settings)
    with pytest.raises(UnknownTaskError):
        asked(editor)
    editor.prompt(editor.regions["b1"])
    assert asked(editor)[0]["suggestions"] == before
    editor.service.close()
