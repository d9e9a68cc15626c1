"""A session that an earlier version of the backend stored is found by the next click, and goes on.

Its masks were made by a segmenter that this version does not have.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ls_backend.app import EXTENSION, create_app
from ls_backend.sessions.task_session import TaskSession
from ls_backend.settings import Settings
from ls_backend.store.database import FILE_NAME
from pipeline.types import RunLengthMask
from tests.contract.clip import N_FRAMES, SIZE_HW_PX
from tests.contract.replay import Replayer, context_of, decode, masks_of
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.ls_backend.store.test_earlier_sessions import DUMP, stored_masks


@pytest.fixture
def upgraded(media: MediaServer, tmp_path: Path) -> Iterator[Replayer]:
    """A backend that starts with the store of the earlier version."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(DUMP)
    settings = Settings(auth_disabled=True, cache_dir=tmp_path, fetch_retries=0, segmenter="lite")
    app = create_app(settings)
    replayer = Replayer(app, ("", ""), media.url, LEGACY_TOKEN)
    assert replayer.post("/setup", replayer.body("setup")).status_code == 200
    yield replayer
    app.extensions[EXTENSION].close()


def session_of(replayer: Replayer, task: str) -> TaskSession:
    (session,) = replayer.app.extensions[EXTENSION]._sessions.open_sessions(("1", task))
    return session


def test_masks_and_prompts_are_known_before_any_click(upgraded: Replayer) -> None:
    assert {"HDJ8Sxz-BF", "MBgOd7rUMc", "pHWqHP0EcU"} <= upgraded.known_prompts()
    assert upgraded.app.extensions[EXTENSION]._sessions.open_sessions(("1", "1")) == ()


def test_masks_of_a_segmenter_that_is_gone_stay(upgraded: Replayer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    body = upgraded.body("reopened")
    body["params"]["context"] = None
    result = upgraded.predict(body)[0]["result"]
    sent = {region["id"]: decode(region) for region in masks_of(result)}
    for (object_id, frame_index), (own, shown, _) in stored_masks("1").items():
        expected = RunLengthMask(*SIZE_HW_PX, shown or own).decode()
        np.testing.assert_array_equal(sent[f"obj{object_id}-{frame_index:05d}"], expected)
    upgraded.predict("reopened")
    assert "its masks were made by i_pt+classical and stay; from now on i_pt+lite segments" in caplog.text


def test_clicks_go_on(upgraded: Replayer) -> None:
    answer = upgraded.predict("reopened")[0]
    session = session_of(upgraded, "1")
    assert session._log.newest == 9, "eight rounds are stored"
    sent = {prompt["id"] for prompt in context_of(upgraded.body("reopened"))}
    assert {prompt.region_id for prompt in session.prompts("obj1")} == {*sent, "HDJ8Sxz-BF"}
    known = {mask.frame_index for mask in session.all_masks() if mask.label == "obj1"}
    assert known == set(range(1, N_FRAMES)), "as the earlier version went on; the dump lacks the mask of frame 0"
    assert masks_of(answer["result"], "obj1")


def test_hand_work_goes_on(upgraded: Replayer) -> None:
    upgraded.predict("strokes_submitted")
    session = session_of(upgraded, "2")
    assert session._log.newest == 2, "one round is stored"
    signs = [prompt.positive for prompt in session.prompts("obj2") if prompt.kind == "scribble"]
    assert signs == [True, True, True, False], "pixels alone, which are submitted, do not tell the sign"
    masks = [prompt for prompt in session.prompts("obj1") if prompt.kind == "mask"]
    assert [mask.frame_index for mask in masks] == [0, 2]
    assert masks[0].hand_mask is not None
    assert masks[0].hand_mask.replaces == ["JHEXUL8Mjv", "weJOl47I1o"], "as the earlier version stored it"
