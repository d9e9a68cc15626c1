"""The backend stops and starts again: the next click continues as if nothing had happened."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from ls_backend.cli.main import app
from ls_backend.label_studio.annotation_repairs import repaired_regions
from ls_backend.protocol.label_config import parse_label_config
from ls_backend.protocol.payloads import SetupRequest
from ls_backend.service import PredictionService
from ls_backend.sessions import saver as session_saver
from ls_backend.sessions.editor_state import EditorState
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings, current
from ls_backend.store.database import FILE_NAME, Database, StoreError, store_address
from ls_backend.store.tables import SCHEMA_VERSION
from pipeline.video.sample_clip import SampleClip
from tests.colour_segmenter import NAME
from tests.ls_backend.drawing import changed_by_hand, drawn, erased, touch
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.ls_backend.postgres_server import empty
from tests.ls_backend.test_service import (
    CONFIG,
    N_FRAMES,
    PROJECT,
    SIZE_HW_PX,
    Editor,
    box_around,
    box_around_half,
    click_on,
    clip,
    iou,
    masks,
    prompt_ids,
)

__all__ = ["clip"]
ALL_FRAMES = list(range(N_FRAMES))


@dataclass
class Backend:
    """Services with one cache folder and one store, started one after the other."""

    settings: Settings
    media: MediaServer
    urls: list[str]
    started: list[PredictionService] = field(default_factory=list)

    def start(self, **changes: Any) -> PredictionService:
        """Start a service that has only what is stored, like a new process."""
        service = PredictionService(self.settings.model_copy(update=changes))
        service.setup(SetupRequest(project=PROJECT, hostname=self.media.url, access_token=LEGACY_TOKEN))
        self.started.append(service)
        return service

    def editor(self, **changes: Any) -> Editor:
        return Editor(self.start(**changes), self.urls)

    def restart(self, *editors: Editor, **changes: Any) -> None:
        """Kill the backend of these editors once its last answer is stored, and start it again."""
        assert editors[0].service._sessions.flush()
        silence(editors[0])
        service = self.start(**changes)
        for editor in editors:
            editor.service = service


def silence(editor: Editor) -> None:
    """From now on the backend stores nothing, as if it had been killed."""
    saver = editor.service._sessions._saver
    with saver._changes:
        saver._is_closed = True
        saver._changes.notify_all()
    saver._thread.join(10)
    assert not saver._thread.is_alive()


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(
    request: pytest.FixtureRequest, settings: Settings, media: MediaServer, clip: SampleClip
) -> Iterator[Backend]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    if url:
        empty(store_address(url, settings.cache_dir))
    urls = [media.put(f"{index}", frame) for index, frame in enumerate(clip.frames)]
    backend = Backend(settings.model_copy(update={"store_url": SecretStr(url)}), media, urls)
    yield backend
    for service in backend.started:
        service.close()


@pytest.fixture
def in_file(settings: Settings, media: MediaServer, clip: SampleClip) -> Iterator[Backend]:
    """A backend with SQLite, where the kind of database makes no difference."""
    urls = [media.put(f"{index}", frame) for index, frame in enumerate(clip.frames)]
    backend = Backend(settings, media, urls)
    yield backend
    for service in backend.started:
        service.close()


def session_of(editor: Editor) -> TaskSession:
    return editor.service._sessions.open_sessions(("5", str(editor.task_id)))[0]


def n_segmented(editor: Editor) -> int:
    """How many masks the latest round made."""
    return session_of(editor)._log.records()[-1].n_masks


def test_the_same_prompts_again_segment_and_send_nothing(backend: Backend, clip: SampleClip) -> None:
    editor = backend.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    backend.restart(editor)
    again = editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0
    assert masks(again["result"], "obj1") == {}
    assert prompt_ids(editor) == {"b1"}


def test_a_restart_changes_no_answer(in_file: Backend, clip: SampleClip) -> None:
    """The same clicks with and without restarts between them: the same masks, from as many frames segmented."""
    clicks = [
        box_around(clip, 0, 1, "obj1"),
        click_on(clip, 5, 1, "obj1", "p1"),
        box_around(clip, 2, 2, "obj 2", "b2"),
        click_on(clip, 3, 1, "obj1", "p2"),
    ]
    editor = in_file.editor(segmenter="lite")
    steady = Editor(editor.service, in_file.urls, task_id=8)
    expected = []
    for click in copy.deepcopy(clicks):
        steady.prompt(click)
        expected.append((copy.deepcopy(steady.regions), n_segmented(steady)))
        steady.save()
    for click, (regions, n_masks) in zip(clicks, expected, strict=True):
        editor.prompt(click)
        assert sorted(editor.regions) == sorted(regions)
        assert n_segmented(editor) == n_masks
        # What the method learned from earlier rounds, besides the masks, is learned again.
        for label in ("obj1", "obj 2"):
            expected_masks, again = masks(list(regions.values()), label), masks(list(editor.regions.values()), label)
            assert again.keys() == expected_masks.keys()
            assert all(iou(mask, expected_masks[i]) > 0.95 for i, mask in again.items() if expected_masks[i].any())
        editor.save()
        in_file.restart(editor, segmenter="lite")
    assert expected[-1][1] < 2 * N_FRAMES, "the last click changes only its surroundings, of the label it touches too"
    before, after = (masks(list(regions.values()), "obj1") for regions, _ in expected[-2:])
    assert all(np.array_equal(before[i], after[i]) for i in (0, N_FRAMES - 1)), "prompted frames end its range"


def test_what_is_known_is_answered_from_the_store(backend: Backend, clip: SampleClip) -> None:
    editor = backend.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    (before,) = editor.service.predict(editor.request(None))
    assert sorted(masks(before["result"], "obj1")) == ALL_FRAMES
    backend.restart(editor)
    assert editor.service.predict(editor.request(None)) == [before]
    assert editor.service._sessions.open_sessions(("5", "7")) == (), "looking opens no session"


def test_the_sessions_of_two_annotators_both_come_back(
    backend: Backend, clip: SampleClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ls_backend.sessions.editor_state.SAME_EDITOR_S", 0.0)
    one = backend.editor()
    one.prompt(box_around(clip, 0, 1, "obj1"))
    one.save()
    other = Editor(one.service, backend.urls)
    other.prompt(click_on(clip, 5, 1, "obj1", "q1"))
    other.save()
    backend.restart(one, other)
    other.prompt(click_on(clip, 4, 1, "obj1", "q2"))
    assert prompt_ids(other) == {"q1", "q2"}
    one.prompt(one.regions["b1"])
    assert n_segmented(one) == 0
    assert prompt_ids(one) == {"b1"}
    assert len(one.service._sessions.open_sessions(("5", "7"))) == 2


def test_a_session_that_was_dropped_from_memory_comes_back(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor(max_sessions=1)
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    for task_id in (8, 9):
        Editor(editor.service, in_file.urls, task_id).prompt(box_around(clip, 0, 1, "obj1"))
    assert editor.service._sessions.open_sessions(("5", "7")) == ()
    again = editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0
    assert masks(again["result"], "obj1") == {}


def test_an_answer_that_was_not_stored_any_more_loses_nothing(in_file: Backend, clip: SampleClip) -> None:
    """The second round was answered, but the process was killed before it was stored."""
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert editor.service._sessions.flush()
    silence(editor)
    editor.prompt(box_around(clip, 4, 1, "obj1", "b2"))
    editor.save()
    before = masks(list(editor.regions.values()), "obj1")
    editor.service = in_file.start()
    answer = editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    assert prompt_ids(editor) == {"b1", "b2", "p1"}
    assert sorted(masks(answer["result"], "obj1")) == ALL_FRAMES, "what the editor has is not known, so all is sent"
    assert (masks(answer["result"], "obj1")[4] == before[4]).all()


def test_a_click_that_was_never_answered_finds_its_session(in_file: Backend, clip: SampleClip) -> None:
    """The process was killed in its first round: the editor has the click, but neither echo nor mask."""
    editor = in_file.editor()
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    session_of(editor)._editor = EditorState()
    session_of(editor).on_change(True)
    in_file.restart(editor)
    editor.regions = {"p1": click_on(clip, 0, 1, "obj1", "p1")}
    answer = editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    assert n_segmented(editor) == 0
    assert sorted(masks(answer["result"], "obj1")) == ALL_FRAMES


def test_masks_made_since_the_answer_are_sent_after_a_restart(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor(response_budget_s=0.001)
    early = editor.prompt(box_around(clip, 0, 1, "obj1"))
    session = session_of(editor)
    assert session._round is not None
    assert session._round.job.wait(30)
    in_file.restart(editor)
    late = editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0, "the masks were in the store"
    assert sorted({*masks(early["result"], "obj1"), *masks(late["result"], "obj1")}) == ALL_FRAMES


def test_a_reloaded_page_gets_what_it_lost(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    in_file.restart(editor)
    fresh = Editor(editor.service, editor.urls)
    assert sorted(masks(fresh.prompt(box_around(clip, 0, 1, "obj1"))["result"], "obj1")) == ALL_FRAMES
    assert n_segmented(fresh) == 0


def test_undo_across_a_restart(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    first = dict(editor.regions)
    editor.prompt(click_on(clip, 4, 1, "obj1", "p1"))
    editor.prompt(box_around(clip, 1, 2, "obj 2", "b2"))
    in_file.restart(editor)
    editor.regions = {**first}
    answer = editor.prompt(editor.regions["b1"])
    assert prompt_ids(editor) >= {"b1"}
    assert sorted(masks(answer["result"], "obj1")) == ALL_FRAMES, "the editor lost a round: all is sent"


def test_a_deleted_prompt_is_still_forgotten(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    in_file.restart(editor)
    del editor.regions["b1"]
    editor.save()
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    assert prompt_ids(editor) == {"p1", "p2"}


def test_an_undone_label_stays_away(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    before_second = dict(editor.regions)
    editor.prompt(box_around(clip, 0, 2, "obj 2", "b2"))
    editor.regions = before_second
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    editor.regions = {i: region for i, region in editor.regions.items() if not i.startswith("obj_2")}
    editor.save()
    in_file.restart(editor)
    editor.prompt(click_on(clip, 5, 1, "obj1", "p2"))
    assert prompt_ids(editor, "obj 2") == set()
    assert masks(list(editor.regions.values()), "obj 2") == {}


def test_another_method_continues_with_the_masks(
    in_file: Backend, clip: SampleClip, caplog: pytest.LogCaptureFixture
) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    caplog.set_level(logging.INFO)
    in_file.restart(editor, method="sam_pt")
    again = editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0
    assert again["model_version"] == f"sam_pt+{NAME}"
    assert f"its masks were made by i_pt+{NAME} and stay; from now on sam_pt+{NAME} segments" in caplog.text


def test_changed_frames_start_a_new_session(in_file: Backend, clip: SampleClip, media: MediaServer) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    in_file.restart(editor)
    editor.urls = [media.put(f"other{index}", frame) for index, frame in enumerate(clip.frames[:4])]
    editor.regions = {}
    assert sorted(masks(editor.prompt(box_around(clip, 0, 1, "obj1"))["result"], "obj1")) == [0, 1, 2, 3]


def test_a_damaged_file_does_not_stop_the_work(
    in_file: Backend, clip: SampleClip, caplog: pytest.LogCaptureFixture
) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    editor.service.close()
    (in_file.settings.cache_dir / FILE_NAME).write_bytes(b"\0" * 100_000)
    editor.service = in_file.start()
    assert "was moved to" in caplog.text
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    assert prompt_ids(editor) == {"b1", "p1"}, "prompts come back from the draft"
    in_file.restart(editor)
    editor.prompt(editor.regions["p1"])
    assert n_segmented(editor) == 0


def test_frames_out_of_reach_lose_nothing(in_file: Backend, clip: SampleClip, media: MediaServer) -> None:
    """The first request after the restart fails, because Label Studio is down too."""
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    editor.service._media._disk.clear()
    in_file.restart(editor)
    files, media.files = media.files, {}
    with pytest.raises(Exception, match="not one frame can be read"):
        editor.prompt(editor.regions["b1"])
    media.files = files
    editor.service._media._paused.clear()
    editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0


def test_masks_that_label_studio_dropped_are_put_back_after_a_restart(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around_half(clip, 0, 1, "obj1"))
    loaded = {region_id: copy.deepcopy(region) for region_id, region in editor.regions.items()}
    editor.annotation = list(loaded.values())
    editor.prompt(click_on(clip, 5, 1, "obj1", "p1"))
    saved = [loaded.get(region_id, region) for region_id, region in editor.regions.items()]
    in_file.restart(editor)
    config = parse_label_config(CONFIG)
    (stored,) = editor.service._sessions.all_sessions(("5", "7"), config)
    regions = repaired_regions(saved, stored, config)
    assert regions is not None
    assert masks(regions, "obj1").keys() == masks(saved, "obj1").keys()
    for index, mask in masks(list(editor.regions.values()), "obj1").items():
        assert (masks(regions, "obj1")[index] == mask).all()


def test_a_store_that_fails_is_tried_again(
    in_file: Backend, clip: SampleClip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session_saver, "RETRY_S", 0.05)
    caplog.set_level(logging.INFO)
    editor = in_file.editor()
    store, write = editor.service._sessions._store, editor.service._sessions._store.write
    failures = iter([StoreError("disk full"), StoreError("disk full")])

    def failing(*words: Any) -> int:
        error = next(failures, None)
        if error is not None:
            raise error
        return write(*words)

    monkeypatch.setattr(store, "write", failing)
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    saver = editor.service._sessions._saver
    with saver._changes:
        assert saver._changes.wait_for(lambda: saver._n_written >= saver._n_changes and not saver._failed_at_s, 10)
    assert caplog.text.count("sessions cannot be stored") == 1
    assert "sessions are stored again" in caplog.text
    in_file.restart(editor)
    editor.prompt(editor.regions["b1"])
    assert n_segmented(editor) == 0


def test_a_session_whose_rows_were_deleted_is_stored_again(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    assert editor.service._sessions.flush()
    store = editor.service._sessions._store
    (summary,) = store.summaries("5", "7")
    with store.database.transaction() as connection:
        connection.exec_driver_sql(f"DELETE FROM ivos_sessions WHERE id = {summary.session_id}")
    editor.prompt(click_on(clip, 3, 1, "obj1", "p1"))
    editor.save()
    in_file.restart(editor)
    editor.prompt(editor.regions["p1"])
    assert n_segmented(editor) == 0
    assert prompt_ids(editor) == {"b1", "p1"}


def test_shutting_down_stores_what_is_done(in_file: Backend, clip: SampleClip) -> None:
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.save()
    before = masks(list(editor.regions.values()), "obj1")
    editor.service.close()
    editor.service = in_file.start()
    (known,) = editor.service.predict(editor.request(None))
    after = masks(known["result"], "obj1")
    assert sorted(after) == ALL_FRAMES
    assert all(np.array_equal(after[index], before[index]) for index in ALL_FRAMES)


def test_strokes_and_hand_made_masks_come_back(in_file: Backend, clip: SampleClip) -> None:
    """The page was reloaded and the draft lost, so the store is all there is."""
    editor = in_file.editor()
    editor.prompt(box_around(clip, 0, 1, "obj1"))
    editor.regions["R"] = drawn("R", "obj1", 2, SIZE_HW_PX, touch((40, 40), (50, 45)))
    editor.regions["obj1-00004"] = changed_by_hand(
        editor.regions["obj1-00004"], erased((0, 50), (100, 50), width_pct=8)
    )
    editor.save()
    editor.prompt(click_on(clip, 0, 1, "obj1", "p1"))
    before = session_of(editor)
    kinds = {prompt.kind for prompt in before.prompts("obj1")}
    assert kinds == {"point", "box", "scribble", "mask"}
    editor.draft = []
    in_file.restart(editor)
    editor.prompt(editor.regions["p1"])
    assert n_segmented(editor) == 0
    after = session_of(editor)
    assert {prompt.region_id for prompt in after.prompts("obj1")} == {p.region_id for p in before.prompts("obj1")}
    assert after.pipeline.prompts(1) == before.pipeline.prompts(1)
    assert after.pipeline.results(1) == before.pipeline.results(1)


def test_a_newer_store_is_refused_before_the_server_starts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(store_address("", settings.cache_dir))
    database.open()
    with database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE ivos_schema SET version = {SCHEMA_VERSION + 1}")
    database.close()
    current.cache_clear()
    monkeypatch.setenv("IVOS_SEGMENTER", "lite")
    # Were it to go on, the server would take the place of the tests' own process.
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("the server was started"))
    answer = CliRunner().invoke(app, ["serve"])
    current.cache_clear()
    assert answer.exit_code == 2
    assert f"has version {SCHEMA_VERSION + 1}, but this backend knows versions up to {SCHEMA_VERSION}" in answer.output
