"""Which controls a project has, and which of them make prompts or carry masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ls_backend.errors import ConfigError

NEGATIVE_CONTROL = "neg"
"""Clicks made with the KeyPointLabels control of this name are negative, as Alt+click is everywhere."""

NEXT_CONTROL = "next"
"""In a TextArea control of this name the annotator reads where to look next."""

COLOURS = ("#00E5FF", "#FF6D00", "#76FF03", "#D500F9", "#FFEA00", "#FF1744", "#2979FF", "#1DE9B6")


@dataclass(frozen=True)
class LabelConfig:
    """What this backend needs to know of a project's labelling config.

    ``labels`` are the brush control's, in its order: one label is one object. ``point_controls`` and ``box_controls``
    name the smart controls whose regions are prompts. ``has_next`` says that there is a `NEXT_CONTROL`.
    """

    image_name: str
    frames_field: str
    brush_control: str
    labels: tuple[str, ...]
    point_controls: frozenset[str]
    box_controls: frozenset[str]
    has_next: bool = False


def recommended_label_config(labels: Sequence[str]) -> str:
    """A labelling config that works, with one label per object.

    Raises:
        ValueError: no label is given, or one is given twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"expected one or more different labels, one per object, but got {list(labels)}")

    rows = [_row(row, labels) for row in _ROWS]
    image = '  <Image name="video" valueList="$frames" zoom="true"/>'
    return "\n".join(("<View>", image, _NEXT_ROW, *rows, "</View>"))


_ROW_STYLE = "display:flex;align-items:center;gap:8px"
_TITLE_STYLE = "flex:0 0 104px"
# As high as a line of text from the start, so that nothing moves when the first one comes.
_NEXT_ROW = f"""\
  <View style="{_ROW_STYLE};min-height:56px">
    <View style="{_TITLE_STYLE}"><Header value="Look next" size="6"/></View>
    <View style="flex:1"><TextArea name="{NEXT_CONTROL}" toName="video" editable="false" maxSubmissions="0"/></View>
  </View>"""


@dataclass(frozen=True)
class _Row:
    """One control below the image: its tag and name, what the annotator reads beside it, and its labels' hotkeys."""

    tag: str
    name: str
    title: str
    hotkeys: str
    smart: bool = True


# The order matters: of several keypoint controls the hotkey K takes the last one, which must be the positive clicks.
# Letters that are hotkeys of Label Studio's tools (B, E, H, K, M, O, P, R, V, W) are left out.
_ROWS = (
    _Row("RectangleLabels", "box", "Box (R)", "asdfgjl"),
    _Row("KeyPointLabels", NEGATIVE_CONTROL, "Click away", "zxcn"),
    _Row("KeyPointLabels", "pos", "Click (K)", "123456789"),
    _Row("BrushLabels", "brush", "Paint (B)", "qtyui", smart=False),
)


def _row(row: _Row, labels: Sequence[str]) -> str:
    def label_tag(position: int, label: str) -> str:
        hotkey = f' hotkey="{row.hotkeys[position]}"' if position < len(row.hotkeys) else ""
        return (
            f"      <Label value={quoteattr(label)} background={quoteattr(COLOURS[position % len(COLOURS)])}{hotkey}/>"
        )

    smart = 'smart="true" smartOnly="true"' if row.smart else 'smart="false"'
    lines = (
        f'  <View style="{_ROW_STYLE}">',
        f'    <View style="{_TITLE_STYLE}"><Header value="{row.title}" size="6"/></View>',
        f'    <{row.tag} name="{row.name}" toName="video" {smart}>',
        *(label_tag(position, label) for position, label in enumerate(labels)),
        f"    </{row.tag}>",
        "  </View>",
    )
    return "\n".join(lines)


@lru_cache(maxsize=64)
def parse_label_config(xml: str) -> LabelConfig:
    """Read a project's labelling config.

    Raises:
        ConfigError: it is not XML, or a control is missing; the message ends with a config that works.
    """
    try:
        root = fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise _config_error(f"the labelling config is not readable XML ({error})", ()) from error
    images = [tag for tag in root.iter("Image") if tag.get("valueList", "").startswith("$")]
    if not images:
        raise _config_error('an <Image valueList="$frames"> is needed (one address per frame), but there is none', ())
    image = images[0]
    brushes = _controls(root, "BrushLabels", image)
    if not brushes:
        raise _config_error("a <BrushLabels> control on the frames is needed to carry the masks", _labels(root))
    brush = brushes[0]
    points = {_name(tag) for tag in _controls(root, "KeyPointLabels", image)}
    boxes = {_name(tag) for tag in _controls(root, "RectangleLabels", image)}
    labels = _labels(brush)
    if not points and not boxes:
        raise _config_error("a smart <KeyPointLabels> or <RectangleLabels> control is needed for prompts", labels)
    if not labels:
        raise _config_error(f"<BrushLabels name={_name(brush)!r}> has no <Label>; one per object is needed", ())
    return LabelConfig(
        image_name=_name(image),
        frames_field=image.get("valueList", "")[1:],
        brush_control=_name(brush),
        labels=labels,
        point_controls=frozenset(points),
        box_controls=frozenset(boxes),
        has_next=any(_name(tag) == NEXT_CONTROL for tag in _controls(root, "TextArea", image)),
    )


def _controls(root: Element, tag: str, image: Element) -> list[Element]:
    return [element for element in root.iter(tag) if element.get("toName") == image.get("name")]


def _name(element: Element) -> str:
    return element.get("name", "")


def _labels(element: Element) -> tuple[str, ...]:
    values = (label.get("value", "") for label in element.iter("Label"))
    return tuple(dict.fromkeys(value for value in values if value))


def _config_error(problem: str, labels: Iterable[str]) -> ConfigError:
    example = recommended_label_config(tuple(labels) or ("obj1", "obj2"))
    return ConfigError(f"{problem}. In the project's Settings, Labeling Interface, this one works:\n{example}")
