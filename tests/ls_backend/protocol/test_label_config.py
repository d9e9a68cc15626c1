from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_backend.errors import ConfigError
from ls_backend.protocol.label_config import parse_label_config, recommended_label_config

GOOD = recommended_label_config(["obj1", "obj2"])


def test_reads_what_it_recommends() -> None:
    config = parse_label_config(GOOD)
    assert config.labels == ("obj1", "obj2")
    assert (config.image_name, config.frames_field, config.brush_control) == ("video", "frames", "brush")
    assert config.point_controls == {"pos", "neg"}
    assert config.box_controls == {"box"}
    assert config.has_next


def test_a_place_for_the_next_frame_may_be_missing() -> None:
    xml = GOOD.replace('name="next"', 'name="notes"')
    assert parse_label_config(xml) == replace(parse_label_config(GOOD), has_next=False)


@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"]), min_size=1),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_any_label_survives(labels: list[str]) -> None:
    assert parse_label_config(recommended_label_config(labels)).labels == tuple(labels)


def test_recommended_config_needs_labels() -> None:
    for labels in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="different labels"):
            recommended_label_config(labels)


@pytest.mark.parametrize(
    ("xml", "needs"),
    [
        ("", "not readable XML"),
        ("<View>", "not readable XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "not readable XML"),
        ('<View><Image name="i" value="$image"/></View>', r'<Image valueList="\$frames">'),
        ('<View><Text name="t" value="$text"/></View>', r'<Image valueList="\$frames">'),
        (GOOD.replace("BrushLabels", "PolygonLabels"), "<BrushLabels>"),
        (GOOD.replace('toName="video" smart="false"', 'toName="other"'), "<BrushLabels>"),
        (
            GOOD.replace("KeyPointLabels", "Labels").replace("RectangleLabels", "Labels"),
            "KeyPointLabels> or <RectangleLabels",
        ),
    ],
)
def test_unusable_config_names_what_is_missing_and_shows_one_that_works(xml: str, needs: str) -> None:
    with pytest.raises(ConfigError, match=needs) as caught:
        parse_label_config(xml)
    shown = str(caught.value)
    parse_label_config(shown[shown.index("<View>\n") :])


def test_example_keeps_the_projects_own_labels() -> None:
    xml = GOOD.replace("BrushLabels", "PolygonLabels").replace("obj2", "swan")
    with pytest.raises(ConfigError, match='value="swan"'):
        parse_label_config(xml)
