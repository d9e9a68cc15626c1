"""Label Studio's editor as an annotator uses it, in Chromium: labels, smart tools, frames, rounds, Submit and Undo.

Positions are fractions of the image in [0, 1], origin at its top left corner; frames are 0-based. What a person would
do with mouse and keyboard is done with mouse and keyboard; the editor's store (`window.Htx`) is read, and turns frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, Response, TimeoutError

INTERACTIVE_PATH = "interactive-annotating"
_TOOL_OF_TYPE = {"keypointlabels": "key-point-tool", "rectanglelabels": "rectangle-tool"}


@dataclass(frozen=True)
class Round:
    """What one prompt led to: the editor's request and Label Studio's answer (HTTP status 200 even on errors)."""

    request: dict[str, Any]
    answer: dict[str, Any]

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """The prompts of the request: all of one type and one label, on all frames."""
        return list(self.request["context"]["result"])

    @property
    def results(self) -> list[dict[str, Any]]:
        """The regions of the answer; empty when the backend failed."""
        return list((self.answer.get("data") or {}).get("result") or [])

    @property
    def errors(self) -> list[Any]:
        """What Label Studio says went wrong; empty when the backend answered."""
        return list(self.answer.get("errors") or [])


class Editor:
    """A page object for one task of a project with the controls ``brush``, ``pos``, ``neg`` and ``box``."""

    def __init__(self, page: Page, host_url: str) -> None:
        self.page = page
        self.host_url = host_url.rstrip("/")

    # --- getting there -------------------------------------------------------------------------------------------
    def login(self, email: str, password: str) -> None:
        """Log in through the form."""
        self.page.goto(f"{self.host_url}/user/login/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open_task(self, project_id: int, task_id: int) -> None:
        """Open a task and wait until its first frame is on the canvas."""
        self.page.goto(f"{self.host_url}/projects/{project_id}/data?task={task_id}")
        self._wait_for(f"{_IMAGE} && Htx.task?.id === {task_id} && {_IMAGE}.imageIsLoaded")
        self.page.wait_for_selector(".konvajs-content")

    # --- prompting -----------------------------------------------------------------------------------------------
    def choose_label(self, label: str, control: str) -> None:
        """Click a label of one control in the label bar, unless it is selected already."""
        state = self._label_state(control, label)
        if not state["selected"]:
            self.page.locator(".lsf-label").nth(state["position"]).click()
            self._wait_for(f"{_label_state_js(control, label)}.selected")

    def use_tool(self, control: str) -> None:
        """Pick the smart tool of a control, unless it is the active one."""
        state = self.page.evaluate(_tool_state_js(control))
        if state["active"]:
            return
        self.page.locator(".lsf-tool_smart").first.hover()
        button = self.page.locator(f'button.lsf-tool_smart[aria-label="{_TOOL_OF_TYPE[state["type"]]}"]')
        button.nth(state["position"]).click(force=True)
        self._wait_for(f"{_tool_state_js(control)}.active")

    def draw_box(self, label: str, x0: float, y0: float, x1: float, y1: float, *, control: str = "box") -> Round:
        """Draw a smart box on the current frame and wait for its round."""
        self.choose_label(label, control)
        self.use_tool(control)
        return self.drag(x0, y0, x1, y1)

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> Round:
        """Drag from corner to corner with whatever tool and label are chosen, and wait for the round."""

        def drag() -> None:
            self._aim(x0, y0)
            mouse = self.page.mouse
            mouse.down()
            mouse.move(*self._canvas_px((x0 + x1) / 2, (y0 + y1) / 2), steps=4)
            mouse.move(*self._canvas_px(x1, y1), steps=4)
            mouse.up()

        return self.wait_for_prediction(drag)

    def click(
        self, label: str, x: float, y: float, *, negative: bool = False, through: bool = False, control: str = "pos"
    ) -> Round:
        """Click with the smart point of a control on the current frame and wait for the round.

        Args:
            label: the object's label.
            x: column as a fraction of the width.
            y: row as a fraction of the height.
            negative: hold Alt, so that the point says "not this object".
            through: hold Ctrl, which is needed where a mask is under the point; without it the click selects that mask.
            control: the point control, ``pos`` or ``neg``.
        """
        return self.wait_for_prediction(
            lambda: self.click_without_waiting(label, x, y, negative=negative, through=through, control=control)
        )

    def click_without_waiting(
        self, label: str, x: float, y: float, *, negative: bool = False, through: bool = False, control: str = "pos"
    ) -> None:
        """The same click, for cases in which no request follows or the answer is not to be awaited."""
        self.choose_label(label, control)
        self.use_tool(control)
        self._press(x, y, negative=negative, through=through)

    def press(self, x: float, y: float, *, negative: bool = False, through: bool = False) -> Round:
        """Click with whatever tool and label are chosen, and wait for the round."""
        return self.wait_for_prediction(lambda: self._press(x, y, negative=negative, through=through))

    def _press(self, x: float, y: float, *, negative: bool, through: bool) -> None:
        self._aim(x, y)
        with self._holding(["Alt"] * negative + ["Control"] * through):
            self.page.mouse.click(*self._canvas_px(x, y))

    # --- painting ------------------------------------------------------------------------------------------------
    def start_painting(self, label: str) -> None:
        """Take the brush with nothing selected: the next stroke makes a region of its own with this label."""
        self.page.keyboard.press("Escape")
        self.choose_label(label, "brush")
        self._take("b", "BrushTool")

    def select_mask(self, label: str, x: float, y: float) -> None:
        """Select the region under a point by a plain click with the smart point, as a person does."""
        self.click_without_waiting(label, x, y)
        self._wait_for(f"!!{_ANNOTATION}.highlightedNode")

    def take_brush(self) -> None:
        """Take the brush for the selected region."""
        self._take("b", "BrushTool")

    def take_eraser(self) -> None:
        """Take the eraser for the selected region."""
        self._take("e", "EraserTool")

    def stroke(self, *path: tuple[float, float]) -> None:
        """Draw one stroke through some points with whatever tool is chosen."""
        self._aim(*path[0])
        self.page.mouse.down()
        for x, y in path[1:]:
            self.page.mouse.move(*self._canvas_px(x, y), steps=4)
        self.page.mouse.up()
        # A first stroke becomes a region in a moment of its own.
        self._wait_for(f"!{_ANNOTATION}.isDrawing")
        self.page.wait_for_timeout(50)

    def scrub(self, left: float, top: float, right: float, bottom: float, *, rows: int = 6) -> None:
        """Fill a rectangle with one stroke that goes to and fro."""
        path: list[tuple[float, float]] = []
        for row in range(rows):
            y = top + (bottom - top) * row / (rows - 1)
            path += [(left, y), (right, y)] if row % 2 == 0 else [(right, y), (left, y)]
        self.stroke(*path)

    def let_go(self) -> None:
        """Select nothing."""
        self.page.keyboard.press("Escape")
        self._wait_for(f"!{_ANNOTATION}.highlightedNode")

    def _take(self, key: str, tool: str) -> None:
        self.page.keyboard.press(key)
        self._wait_for(f"{_IMAGE}.getToolsManager().findSelectedTool()?.fullName === {json.dumps(tool)}")

    def wait_for_prediction(self, act: Callable[[], None], *, timeout_s: float = 110.0) -> Round:
        """Do something that makes the editor ask the backend; return once the answer is applied to the annotation."""
        with self.page.expect_response(_is_interactive, timeout=timeout_s * 1000) as waiting:
            act()
        response = waiting.value
        done = Round(json.loads(response.request.post_data or "{}"), response.json())
        self._wait_for(f"!Htx.awaitingSuggestions && {_ANNOTATION}.suggestions.size === 0")
        expected_ids = json.dumps([region["id"] for region in done.results])
        self._wait_for(f"{expected_ids}.every(id => {_ANNOTATION}.regions.some(r => r.cleanId === id))")
        return done

    # --- looking -------------------------------------------------------------------------------------------------
    def go_to_frame(self, frame_index: int) -> None:
        """Show another frame (the pager takes the same call)."""
        is_shown_js = f"{_IMAGE}.currentImage === {frame_index} && {_IMAGE}.currentImageEntity.imageLoaded"
        for timeout_s in (5, 10):
            self.page.evaluate(f"{_IMAGE}.setCurrentItem({frame_index})")
            try:
                self.page.wait_for_function(is_shown_js, timeout=timeout_s * 1000)
            except TimeoutError:
                # Label Studio 1.23 now and then misses that a frame it was just fetching ahead has come.
                self.page.evaluate(f"{_IMAGE}.setCurrentItem({_IMAGE}.currentImage ? 0 : 1)")
            else:
                return
        self.page.evaluate(f"{_IMAGE}.setCurrentItem({frame_index})")
        self._wait_for(is_shown_js)

    def regions(self) -> list[dict[str, Any]]:
        """The annotation as it would be submitted now: Label Studio's list of regions."""
        return list(self.page.evaluate(f"{_ANNOTATION}.serializeAnnotation()"))

    def regions_of_backend(self) -> list[dict[str, Any]]:
        """The same without brush regions that the annotator began."""
        return [r for r in self.regions() if r["type"] != "brushlabels" or r["origin"] != "manual"]

    def current_frame(self) -> int:
        """The frame in view."""
        return int(self.page.evaluate(f"{_IMAGE}.currentImage"))

    def note(self) -> str:
        """The line beside "Look next", as the annotator reads it."""
        return self.page.locator(".lsf-text-area").inner_text().strip()

    def is_on(self, switch: str) -> bool:
        """Whether a switch of the bottom bar is on: ``auto-annotation`` or ``auto-accept``."""
        return self.page.locator(f'[data-testid="bottombar-{switch}-toggle"]').is_checked()

    def screenshot(self, path: Path) -> None:
        """Write what the annotator sees as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Masks are painted a moment after their frame.
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=path)

    # --- ending a round or a task --------------------------------------------------------------------------------
    def save_draft(self) -> None:
        """Let the editor save now what it would save some seconds later."""
        self.page.evaluate(f"{_ANNOTATION}.saveDraftImmediately()")

    def undo(self) -> None:
        """Press Undo once."""
        self.page.click('button[aria-label="Undo"]')

    def can_undo(self) -> bool:
        """Whether Undo would do anything."""
        return bool(self.page.evaluate(f"{_ANNOTATION}.history.canUndo"))

    def delete_region(self, region_id: str) -> None:
        """Select a region and press the key that deletes it."""
        self.page.evaluate(f"{_ANNOTATION}.selectArea({_region_js(region_id)})")
        self.page.keyboard.press("Backspace")
        self._wait_for(f"!{_region_js(region_id)}")

    def submit(self) -> int:
        """Press Submit, or Update where the annotation exists; return the annotation's id once it is stored."""
        button = self._submit_button()
        with self.page.expect_response(_stores_annotation, timeout=60_000) as waiting:
            button.click()
        return int(waiting.value.json()["id"])

    def _submit_button(self) -> Locator:
        return self.page.locator('button:has-text("Submit"), button:has-text("Update")').first

    # --- details -------------------------------------------------------------------------------------------------
    def _canvas_px(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the image is on the page. Label Studio may open a task slightly zoomed and moved."""
        box = self.page.locator(".konvajs-content").first.bounding_box()
        assert box is not None, "the canvas is not visible"
        view = self.page.evaluate(f"""(image => ({{
            left: image.zoomingPositionX, top: image.zoomingPositionY,
            width: image.stageWidth * image.zoomScale, height: image.stageHeight * image.zoomScale,
        }}))({_IMAGE})""")
        return box["x"] + view["left"] + x * view["width"], box["y"] + view["top"] + y * view["height"]

    def _aim(self, x: float, y: float) -> None:
        """Move the mouse over a point of the image, once the list of smart tools does not cover it any more.

        Raises:
            playwright.sync_api.TimeoutError: something covers the point for good; the toolbar may cover the right 6 %.
        """
        self.page.mouse.move(1, 1)
        at_px = ", ".join(str(px) for px in self._canvas_px(x, y))
        is_free_js = f"document.elementFromPoint({at_px})?.closest('.konvajs-content')"
        self.page.wait_for_function(is_free_js, timeout=5_000)
        self.page.mouse.move(*self._canvas_px(x, y))

    @contextmanager
    def _holding(self, keys: list[str]) -> Iterator[None]:
        for key in keys:
            self.page.keyboard.down(key)
        try:
            yield
        finally:
            for key in keys:
                self.page.keyboard.up(key)

    def _wait_for(self, condition_js: str) -> None:
        self.page.wait_for_function(condition_js, timeout=60_000)

    def _label_state(self, control: str, label: str) -> dict[str, Any]:
        return dict(self.page.evaluate(_label_state_js(control, label)))


_ANNOTATION = "window.Htx?.annotationStore?.selected"
_IMAGE = f"{_ANNOTATION}?.objects.find(o => o.type === 'image')"


def _region_js(region_id: str) -> str:
    return f"{_ANNOTATION}.regions.find(r => r.cleanId === {json.dumps(region_id)})"


def _label_state_js(control: str, label: str) -> str:
    """Position of a label in the label bar, which lists the labels of all controls in the order of the config."""
    return f"""(() => {{
        const controls = [...{_ANNOTATION}.names.values()].filter(tag => tag.type.endsWith('labels'));
        let before = 0;
        for (const tag of controls) {{
            const index = tag.tiedChildren.findIndex(child => child._value === {json.dumps(label)});
            if (tag.name === {json.dumps(control)} && index >= 0)
                return {{position: before + index, selected: tag.tiedChildren[index].selected}};
            before += tag.tiedChildren.length;
        }}
        throw new Error('no label ' + {json.dumps(label)} + ' in ' + {json.dumps(control)});
    }})()"""


def _tool_state_js(control: str) -> str:
    """Type of a control, its position among the controls of that type, and whether its smart tool is active."""
    return f"""(() => {{
        const tags = [...{_ANNOTATION}.names.values()];
        const tag = tags.find(tag => tag.name === {json.dumps(control)});
        const position = tags.filter(other => other.type === tag.type).indexOf(tag);
        const tool = {_IMAGE}.getToolsManager().findSelectedTool();
        return {{type: tag.type, position, active: !!tool && tool.dynamic && tool.control?.name === tag.name}};
    }})()"""


def _is_interactive(response: Response) -> bool:
    return INTERACTIVE_PATH in response.url and response.request.method == "POST"


def _stores_annotation(response: Response) -> bool:
    stores = response.request.method in ("POST", "PATCH") and "/annotations" in response.url
    return stores and response.status in (200, 201)
