"""Objects that are not to be seen: a person's word holds until there is strong evidence, and lost objects come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.session.session import Session
from tests.built_methods import lite_segmenter
from tests.oracle.methods import ious, mask_prompt, oracle_method
from tests.oracle.scenes import Scene, scene

CONCURRENT = ("idpro", "lazy", "civos")
SEARCHING = ("i_pt", *CONCURRENT)


def run(method: str, shown: Scene, *frames: int) -> Session:
    """A session that was given the true masks of some frames, one round each."""
    session, prompts = Session(shown.frames, oracle_method(method)), []
    for frame in frames:
        prompts.append(mask_prompt(shown, frame))
        list(session.run_round(prompts, object_ids=[1]))
    return session


def scores(session: Session) -> dict[int, float]:
    return {each.frame_index: each.score for each in session.results(1)}


def without_object(name: str, n_frames: int) -> Scene:
    """The frames of a scene that do not show the object, and its first frame, which does."""
    shown = scene(name)
    gone = [index for index, visible in enumerate(shown.visible()) if not visible][:n_frames]
    kept = [0, *gone]
    return Scene(tuple(shown.images[i] for i in kept), {1: tuple(shown.masks[1][i] for i in kept)})


@pytest.mark.parametrize("method", SEARCHING)
@pytest.mark.parametrize("name", ["leaves", "hidden"])
def test_a_lost_object_is_empty_and_comes_back(method: str, name: str) -> None:
    shown = scene(name)
    found = ious(run(method, shown, 0), shown)
    gone = [index for index, visible in enumerate(shown.visible()) if not visible]
    assert np.mean([found[index] for index in gone]) > 0.9
    assert np.mean(found[gone[-1] + 6 :]) > 0.8


def test_sam_pt_finds_lost_objects_if_told_to() -> None:
    shown = scene("leaves")
    session = Session(shown.frames, oracle_method("sam_pt", find_lost=True))
    list(session.run_round([mask_prompt(shown, 0)], object_ids=[1]))
    assert np.mean(ious(session, shown)) > 0.8


def test_of_two_that_cross_the_one_behind_is_found_again() -> None:
    shown = scene("crosses")
    session = Session(shown.frames, oracle_method("i_pt"))
    list(session.run_round([mask_prompt(shown, 0, 1), mask_prompt(shown, 0, 2)], object_ids=[1, 2]))
    for object_id in (1, 2):
        assert np.mean(ious(session, shown, object_id)) > 0.88
        assert min(ious(session, shown, object_id)[-5:]) > 0.8


@pytest.mark.parametrize("method", [*SEARCHING, "sam_pt"])
def test_after_not_here_every_frame_is_empty_and_sure(method: str) -> None:
    shown = without_object("leaves", 8)
    session = run(method, shown, 0, 1)
    assert ious(session, shown)[1:] == [1.0] * 8
    assert min(list(scores(session).values())[2:]) > 0.95


@pytest.mark.parametrize("method", [*SEARCHING, "sam_pt"])
def test_not_here_holds_on_frames_that_look_the_same_and_ends_where_the_object_comes_back(method: str) -> None:
    shown = scene("leaves")
    gone = shown.visible().index(False)
    session = run(method, shown, 0, gone + 2)
    found, sure = ious(session, shown), scores(session)
    returns = next(index for index in range(gone, len(found)) if shown.visible()[index])
    assert min(found[gone + 2 : returns]) == 1.0
    assert min(sure[index] for index in range(gone + 2, returns)) > 0.9
    # A pass of CiVOS remembers only what it went through: it never saw the object. SAM-PT has no memory.
    assert method in ("civos", "sam_pt") or np.mean(found[returns + 6 :]) > 0.8


def test_nothing_is_taken_for_an_object_that_is_known_only_as_absent() -> None:
    shown = scene("leaves")
    gone = [index for index, visible in enumerate(shown.visible()) if not visible]
    for method in (*SEARCHING, "sam_pt"):
        session = run(method, shown, gone[3])
        assert not any(each.mask.area_px for each in session.results(1))


def test_what_a_person_clears_stays_clear_although_it_looks_like_the_object() -> None:
    shown = scene("alike")
    only_second = replace(shown, masks={1: tuple(np.zeros_like(mask) for mask in shown.masks[1])})
    first = mask_prompt(shown, 0)
    for method in (*SEARCHING, "sam_pt"):
        session = Session(only_second.frames, oracle_method(method))
        list(session.run_round([first, mask_prompt(only_second, 5)], object_ids=[1]))
        after = [each.mask.area_px for each in session.results(1) if each.frame_index > 5]
        assert not any(after)


def test_the_download_free_segmenter_does_not_find_again_what_a_person_cleared() -> None:
    """Its own search may take for the object whatever it took for it on the frame that was cleared."""
    shown = scene("alike")
    only_second = replace(shown, masks={1: tuple(np.zeros_like(mask) for mask in shown.masks[1])})
    session = Session(shown.frames, oracle_method("i_pt", segmenter=lite_segmenter()))
    list(session.run_round([mask_prompt(shown, 0), mask_prompt(only_second, 5)], object_ids=[1]))
    after = [each for each in session.results(1) if each.frame_index > 5]
    assert not any(each.mask.area_px for each in after)
    assert min(each.score for each in after) > 0.95
