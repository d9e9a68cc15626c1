"""The main job in a real browser: a box and two clicks label an object on every frame; a second one leaves it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.clips import Clip, has_shared_clips, real_or_rendered
from tests.e2e.editor import Round
from tests.e2e.person import BoolMask, Click, box_around, correction, jaccard
from tests.e2e.workplace import SCREENSHOTS, Masks, Workplace, masks_of

MEAN_J_WANTED = 0.85
NEAR_PX = 20.0
FIRST, SECOND = "obj1", "obj2"
Regions = list[dict[str, Any]]


@dataclass
class Story:
    """What happened, step by step: the editor's regions after each step, by its name."""

    clip: Clip
    place: Workplace
    task_id: int
    after: dict[str, Regions] = field(default_factory=dict)
    rounds: dict[str, Round] = field(default_factory=dict)
    clicks: dict[str, tuple[int, Click]] = field(default_factory=dict)
    submitted: Regions = field(default_factory=list)

    @property
    def n_frames(self) -> int:
        """Frames of the clip."""
        return len(self.clip.image_paths)

    def note(self, step: str, done: Round) -> None:
        """Keep what a step led to."""
        assert not done.errors, done.errors
        self.rounds[step] = done
        self.after[step] = self.place.editor.regions()

    def masks(self, step: str, label: str = FIRST) -> Masks:
        """What the annotator sees of an object after a step."""
        return masks_of(self.after[step], label)

    def box(self, step: str, label: str, box_xyxy: tuple[float, float, float, float]) -> None:
        """Draw a box on the frame in view."""
        self.note(step, self.place.editor.draw_box(label, *box_xyxy))

    def click(self, step: str, frame_index: int, click: Click) -> None:
        """Click on a frame, through the mask where there is one."""
        self.place.editor.go_to_frame(frame_index)
        self.clicks[step] = frame_index, click
        done = self.place.editor.click(FIRST, click.x, click.y, negative=not click.positive, through=True)
        self.note(step, done)


@pytest.fixture(scope="module", params=[12, pytest.param(60, marks=pytest.mark.long)])
def story(request: pytest.FixtureRequest, place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One box, one negative and one positive click on two frames; a second object; Submit. The clip is cut short."""
    clip = real_or_rendered("blackswan", tmp_path_factory.mktemp("blackswan"))
    # The beginning of the rendered clip is too easy: a box leaves nothing to take away there.
    n_frames = request.param if has_shared_clips() else len(clip.image_paths)
    clip = Clip(clip.name, clip.image_paths[:n_frames], clip.labels[:n_frames])
    story = Story(clip, place, place.import_clip(f"{clip.name}-{request.param}", clip.image_paths))
    editor = place.open_task(story.task_id)
    story.box("box", FIRST, box_around(clip.mask(0)))
    story.click("negative click", *largest_leak(story.masks("box"), clip))
    story.click("positive click", 0, correction(story.masks("negative click")[0], clip.mask(0), positive=True))
    story.box("second object", SECOND, second_box(clip))
    editor.submit()
    story.submitted = place.submitted(story.task_id)
    place.open_task(story.task_id)
    for frame_index in (0, story.n_frames // 2, story.n_frames - 1):
        editor.go_to_frame(frame_index)
        editor.screenshot(SCREENSHOTS / f"{clip.name}-{frame_index:05d}.png")
    return story


def largest_leak(masks: Masks, clip: Clip) -> tuple[int, Click]:
    """Frame and click for the largest wrongly covered region of the whole clip."""
    leaks = []
    for frame_index, mask in masks.items():
        if (mask & ~clip.mask(frame_index)).any():
            leaks.append((frame_index, correction(mask, clip.mask(frame_index), positive=False)))
    return max(leaks, key=lambda leak: int(leak[1].region.sum()))


def second_box(clip: Clip) -> tuple[float, float, float, float]:
    """The clip's second object, or in a clip with one object a part of the bank behind it."""
    return box_around(clip.mask(0, 2)) if (clip.labels[0] == 2).any() else (0.70, 0.14, 0.93, 0.36)


def j_of(masks: Masks, clip: Clip) -> list[float]:
    """Jaccard index of every frame; a frame without a mask counts as an empty one."""
    empty = np.zeros(clip.labels.shape[1:], np.bool_)
    return [jaccard(masks.get(t, empty), clip.mask(t)) for t in range(len(clip.labels))]


def test_every_frame_has_one_mask_of_the_object(story: Story) -> None:
    masks = masks_of(story.submitted, FIRST)
    assert sorted(masks) == list(range(story.n_frames))
    assert all(mask.any() for mask in masks.values())


def test_the_masks_are_good(story: Story) -> None:
    assert len(story.clicks) <= 4
    assert len({0, *(frame_index for frame_index, _ in story.clicks.values())}) <= 2
    j = j_of(masks_of(story.submitted, FIRST), story.clip)
    print(f"{story.clip.name}: mean J {np.mean(j):.3f}, lowest {min(j):.3f} on frame {int(np.argmin(j))}")
    assert np.mean(j) >= MEAN_J_WANTED


@pytest.mark.parametrize("label", [FIRST, SECOND])
def test_what_is_stored_is_what_the_annotator_saw(story: Story, label: str) -> None:
    stored, seen = masks_of(story.submitted, label), story.masks("second object", label)
    for frame_index in range(story.n_frames):
        np.testing.assert_array_equal(stored[frame_index], seen[frame_index])


def test_ids_are_stable_over_rounds(story: Story) -> None:
    expected = {f"{FIRST}-{frame_index:05d}" for frame_index in range(story.n_frames)}
    for step in story.after:
        ids = [region["id"] for region in story.after[step]]
        assert len(ids) == len(set(ids)), step
        assert {region_id for region_id in ids if region_id.startswith(f"{FIRST}-")} == expected, step


def test_prompts_stay_visible_and_are_saved(story: Story) -> None:
    prompts = [region for region in story.submitted if region["type"] in ("keypointlabels", "rectanglelabels")]
    assert sorted(prompt["type"] for prompt in prompts) == ["keypointlabels"] * 2 + ["rectanglelabels"] * 2
    assert sorted(prompt["meta"]["prompt"]["pos"] for prompt in prompts) == [False, True, True, True]


def test_a_negative_click_removes_what_was_wrongly_covered(story: Story) -> None:
    frame_index, click = story.clicks["negative click"]
    before, after = story.masks("box")[frame_index], story.masks("negative click")[frame_index]
    # The leak may be a thin rim around the whole object; a click is about the part of it that lies near.
    near = click.region & within(NEAR_PX, click)
    assert (before & near).sum() == near.sum() > 0
    assert (after & near).sum() <= 0.2 * near.sum()
    assert not pixel(after, click)
    truth = story.clip.mask(frame_index)
    assert jaccard(after, truth) >= jaccard(before, truth) - 0.02


def test_a_positive_click_adds_what_was_missed(story: Story) -> None:
    frame_index, click = story.clicks["positive click"]
    before, after = story.masks("negative click")[frame_index], story.masks("positive click")[frame_index]
    assert not pixel(before, click)
    assert pixel(after, click)
    truth = story.clip.mask(frame_index)
    assert jaccard(after, truth) >= jaccard(before, truth) - 0.02


def within(radius_px: float, click: Click) -> BoolMask:
    """The disc around a click, (H, W) bool."""
    height_px, width_px = click.region.shape
    rows, columns = np.mgrid[:height_px, :width_px]
    return np.asarray(np.hypot(rows - click.y * height_px, columns - click.x * width_px) <= radius_px)


def pixel(mask: BoolMask, click: Click) -> bool:
    """Whether the mask covers the clicked pixel."""
    height_px, width_px = mask.shape
    return bool(mask[int(click.y * height_px), int(click.x * width_px)])


def test_a_second_object_leaves_the_first_alone(story: Story) -> None:
    first_before, first_after = story.masks("positive click"), masks_of(story.submitted, FIRST)
    second = masks_of(story.submitted, SECOND)
    assert sorted(second) == list(range(story.n_frames))
    assert second[0].any()
    for frame_index, claimed in second.items():
        before, after = first_before[frame_index], first_after[frame_index]
        np.testing.assert_array_equal(after & ~claimed, before & ~claimed)
        assert not (after & claimed).any(), "a pixel has one owner"
