"""An empty mask given by a person, "not here", with every method and both kinds of segmenters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice
from pipeline.session.session import Session
from pipeline.types import BoolMask, MaskPrompt, Prompt, RunLengthMask
from tests.built_methods import built
from tests.oracle.methods import METHODS
from tests.oracle.model import oracle_segmenter
from tests.pipeline.frame_sources import ArrayFrames, moving_square

IMAGES, MASKS = moving_square(5)
NOWHERE = np.zeros_like(MASKS[0])
SEGMENTERS = "lite", "sam"


def method_of(name: str, segmenter: str) -> Method:
    """With `lite`, or with a segmenter of the family of segment-anything; `sam_pd` with fewer prompts than usual."""
    options = {"scales": (1.0,)} if name == "sam_pd" else {}
    method: Any = built(MethodChoice(name, "lite", options=options))
    return method if segmenter == "lite" else dataclasses.replace(method, segmenter=oracle_segmenter())


def given(frame_index: int, mask: BoolMask) -> Prompt:
    return MaskPrompt(1, frame_index, RunLengthMask.encode(mask))


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "rounds",
    [
        [[given(2, NOWHERE)]],
        [[given(0, NOWHERE)], [given(3, MASKS[3])]],
        [[given(0, MASKS[0]), given(4, NOWHERE)], [given(2, MASKS[2])]],
        [[given(0, MASKS[0])], [given(3, NOWHERE)], [given(1, NOWHERE)]],
    ],
    ids=["the only prompt", "in round 1", "in round 1 with another", "later"],
)
def test_not_here_is_taken_by_every_method_and_segmenter(
    rounds: list[list[Prompt]], method: str, segmenter: str
) -> None:
    session = Session(ArrayFrames(IMAGES), method_of(method, segmenter))
    prompts: list[Prompt] = []
    for added in rounds:
        prompts += added
        list(session.run_round(prompts, object_ids=[1]))
    masks = {each.frame_index: each.mask.decode() for each in session.results(1)}
    assert sorted(masks) == list(range(len(IMAGES)))
    for prompt in prompts:
        assert isinstance(prompt, MaskPrompt)
        np.testing.assert_array_equal(masks[prompt.frame_index], prompt.mask.decode())
    if len(prompts) == 1:
        assert not any(mask.any() for mask in masks.values())


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_a_frame_without_the_object_takes_no_room_in_the_memory(segmenter: str) -> None:
    stored: list[int] = []
    method: Any = method_of("i_pt", segmenter)

    def new_memory(*arguments: Any) -> Any:
        bank = method.new_memory(*arguments)
        store = bank.store

        def noted(frame_index: int, entry: Any, interaction: bool) -> None:
            assert entry.keys.shape[1], "an entry without cells"
            stored.append(frame_index)
            store(frame_index, entry, interaction)

        bank.store = noted
        return bank

    session = Session(ArrayFrames(IMAGES), dataclasses.replace(method, new_memory=new_memory))
    prompts = [given(0, MASKS[0]), given(2, NOWHERE), given(4, MASKS[4])]
    list(session.run_round(prompts, object_ids=[1]))
    assert sorted(set(stored)) == [0, 4]
