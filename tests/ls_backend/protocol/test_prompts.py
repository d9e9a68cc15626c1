from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_backend.errors import PromptError, RequestError
from ls_backend.protocol.label_config import parse_label_config, recommended_label_config
from ls_backend.protocol.prompts import read_prompt, read_prompts, to_pipeline
from pipeline.types import BoxPrompt, PointPrompt

CONFIG = parse_label_config(recommended_label_config(["obj1", "obj2"]))
SIZE_HW_PX = (480, 854)


def point(**changes: Any) -> dict[str, Any]:
    """A smart click as Label Studio sends it."""
    region = {
        "id": "p1", "from_name": "pos", "to_name": "video", "type": "keypointlabels", "origin": "manual",
        "item_index": 3, "original_width": 854, "original_height": 480, "image_rotation": 0, "is_positive": True,
        "value": {"x": 50.0, "y": 25.0, "width": 0.2, "labels": ["obj1"], "keypointlabels": ["obj1"]},
    }  # fmt: skip
    return {**region, **changes}


def box(**value: Any) -> dict[str, Any]:
    """A smart box as Label Studio sends it."""
    shape = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0, "rectanglelabels": ["obj1"]}
    region = point(id="b1", from_name="box", type="rectanglelabels", value={**shape, **value})
    return {**region, "is_positive": None}


@pytest.mark.parametrize(
    ("region", "positive"),
    [
        (point(), True),
        (point(is_positive=False), False),
        (point(from_name="neg"), False),
        (point(is_positive=None), True),
        (point(is_positive=None, meta={"prompt": {"pos": False}}), False),
        (point(from_name="neg", meta={"prompt": {"pos": True}}), True),
        (point(meta=None), True),
        (point(meta={"text": "a note of the annotator"}), True),
    ],
)
def test_sign_of_a_click(region: dict[str, Any], positive: bool) -> None:
    prompt = read_prompt(region, CONFIG)
    assert prompt.positive is positive
    assert read_prompt(prompt.echo(), CONFIG).positive is positive, "the sign survives the way through Label Studio"


def test_echo_is_the_region_with_its_sign_and_a_score() -> None:
    region = point(is_positive=False, meta={"text": "kept"})
    echoed = read_prompt(region, CONFIG).echo()
    assert echoed.pop("meta") == {"text": "kept", "prompt": {"pos": False}}
    assert echoed.pop("score") == 1.0, "a region list ordered by score ends with prompts"
    assert echoed == {key: value for key, value in region.items() if key != "meta"}


def test_point_in_pixels() -> None:
    assert to_pipeline(read_prompt(point(), CONFIG), 7, SIZE_HW_PX, 10) == PointPrompt(7, 3, 427.0, 120.0, True)


@given(st.floats(0, 100), st.floats(0, 100))
def test_points_stay_inside(x_pct: float, y_pct: float) -> None:
    region = point(value={"x": x_pct, "y": y_pct, "keypointlabels": ["obj1"]})
    prompt = to_pipeline(read_prompt(region, CONFIG), 1, SIZE_HW_PX, 10)
    assert isinstance(prompt, PointPrompt)
    assert 0 <= prompt.x_px < 854
    assert 0 <= prompt.y_px < 480


@pytest.mark.parametrize(
    ("value", "box_xyxy_px"),
    [
        ({}, (85.4, 96.0, 341.6, 288.0)),
        ({"x": -5.0, "width": 45.0}, (0.0, 96.0, 341.6, 288.0)),
        ({"x": 90.0}, (768.6, 96.0, 854.0, 288.0)),
        ({"width": -10.0}, (0.0, 96.0, 85.4, 288.0)),
        # Turned by 90 degrees clockwise about its top left corner: it reaches to the left by its height.
        ({"x": 50.0, "rotation": 90}, (427 - 192.0, 96.0, 427.0, 96 + 256.2)),
    ],
)
def test_box_in_pixels(value: dict[str, Any], box_xyxy_px: tuple[float, ...]) -> None:
    prompt = to_pipeline(read_prompt(box(**value), CONFIG), 1, SIZE_HW_PX, 10)
    assert isinstance(prompt, BoxPrompt)
    assert prompt.box_xyxy_px == pytest.approx(box_xyxy_px)


@pytest.mark.parametrize(
    "region",
    [
        point(value={"x": 100.5, "y": 20.0, "keypointlabels": ["obj1"]}),
        point(value={"x": 20.0, "y": -1.0, "keypointlabels": ["obj1"]}),
        box(x=120.0),
        box(width=0.0),
        point(item_index=10),
    ],
)
def test_prompts_outside_are_refused_by_name(region: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match=f"{region['id']}.*frame {region['item_index']}"):
        to_pipeline(read_prompt(region, CONFIG), 1, SIZE_HW_PX, 10)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (point(value={"x": 1, "y": 1}), "exactly one label"),
        (point(value={"x": 1, "y": 1, "keypointlabels": ["obj1", "obj2"]}), "exactly one label"),
        (point(value={"x": 1, "y": 1, "keypointlabels": ["car"]}), "'car'.*obj1"),
        (point(image_rotation=90), "rotated by 90"),
        (point(item_index=-1), "item_index"),
        (point(value={"x": "left", "y": 1, "keypointlabels": ["obj1"]}), "value.x"),
        (point(value={"x": float("nan"), "y": 1, "keypointlabels": ["obj1"]}), "value.x"),
    ],
)
def test_unusable_prompts_say_why(region: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_prompt(region, CONFIG)
    assert len(read_prompts([region, point(id="fine")], CONFIG).problems) == 1
    assert [prompt.region_id for prompt in read_prompts([region, point(id="fine")], CONFIG).prompts] == ["fine"]


def test_other_regions_are_no_prompts() -> None:
    mask = {"id": "m", "type": "brushlabels", "from_name": "brush", "value": {"format": "rle", "rle": []}}
    doubled = point(value={"format": "rle", "rle": [], "keypointlabels": ["obj1"]})
    foreign = point(from_name="landmarks")
    assert read_prompts([mask, doubled, foreign], CONFIG).prompts == ()


def test_last_of_two_regions_with_one_id_counts() -> None:
    moved = point(value={"x": 1.0, "y": 1.0, "keypointlabels": ["obj1"]})
    (prompt,) = read_prompts([point(), moved], CONFIG).prompts
    assert prompt.content.value.x == 1.0
