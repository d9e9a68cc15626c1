"""Sessions that an earlier version of the backend stored can be read, prompts included, and stored again.

`sessions_version_2.sql` is the dump of a database that it wrote for two real annotations, without most of the masks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ls_backend.protocol.label_config import parse_label_config, recommended_label_config
from ls_backend.protocol.prompts import read_prompts
from ls_backend.store.database import FILE_NAME, Database, store_address
from ls_backend.store.records import SessionRecord
from ls_backend.store.session_store import SessionStore
from pipeline.types import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt

DUMP = Path(__file__).with_name("sessions_version_2.sql").read_text()
CONFIG = parse_label_config(recommended_label_config(["obj1", "obj2"]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(DUMP)
    store = SessionStore(Database(store_address("", tmp_path)), limit_mib=16)
    yield store
    store.close()


def load(store: SessionStore, task: str) -> SessionRecord:
    (summary,) = store.summaries("1", task)
    record = store.load(summary.session_id)
    assert record is not None
    return record


def stored_masks(task: str) -> dict[tuple[int, int], tuple[bytes, bytes | None, bytes | None]]:
    """The columns ``own``, ``shown`` and ``soft`` of the masks in the dump, by object and frame."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(DUMP)
        rows = connection.execute(
            "select object_id, frame_index, own, shown, soft from ivos_masks where session_id = ?", (int(task),)
        )
        return {(object_id, frame_index): tuple(columns) for object_id, frame_index, *columns in rows}


@pytest.mark.parametrize("task", ["1", "2"])
def test_every_mask_is_read(store: SessionStore, task: str) -> None:
    record = load(store, task)
    read = {
        (object_id, frame_index): (
            mask.raw.counts,
            None if mask.resolved == mask.raw else mask.resolved.counts,
            None if mask.soft is None else mask.soft.data,
        )
        for object_id, state in record.objects.items()
        for frame_index, mask in state.masks.items()
    }
    assert len(read) == 4
    assert read == stored_masks(task)
    assert {mask.raw.decode().shape for state in record.objects.values() for mask in state.masks.values()} == {(64, 96)}


def test_the_state_of_the_objects_is_read(store: SessionStore) -> None:
    record = load(store, "1")
    assert (record.labels, record.newest_round, len(record.rounds)) == ({"obj1": 1, "obj2": 2}, 8, 8)
    state = record.objects[1]
    assert (state.round_index, state.interaction_frames) == (6, {3})
    assert list(state.masks_before_prompts) == [3]
    assert record.editor.copies["obj1-00003"].delivered_in == 8
    assert len(record.editor.copies["obj1-00003"].saved_in) == 1
    kinds = {type(prompt) for prompt in state.all_prompts}
    kinds |= {type(prompt) for other in load(store, "2").objects.values() for prompt in other.all_prompts}
    assert kinds == {PointPrompt, BoxPrompt, MaskPrompt, ScribblePrompt}


@pytest.mark.parametrize("task", ["1", "2"])
def test_the_prompts_of_the_annotators_are_read(store: SessionStore, task: str) -> None:
    record = load(store, task)
    read = read_prompts((prompt.raw for prompt in record.prompts), CONFIG)
    assert read.problems == ()
    stored = [(prompt.label, prompt.kind, prompt.region_id) for prompt in record.prompts]
    assert [(prompt.label, prompt.kind, prompt.region_id) for prompt in read.prompts] == stored


def test_they_are_stored_again(store: SessionStore) -> None:
    record = load(store, "1")
    masks = dict(record.objects[1].masks)
    del masks[5]
    newer = replace(record, newest_round=9, objects={**record.objects, 1: replace(record.objects[1], masks=masks)})
    store.write(1, newer, record)
    assert store.load(1) == newer
