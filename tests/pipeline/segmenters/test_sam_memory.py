"""Which cells SAM's memory asks about and stores; for these it reads by the paper's equations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from pipeline.memory.bank import MemoryBank
from pipeline.segmenters.base import FloatMap, MemoryReadout, ObjectPrompts, PromptBatch
from pipeline.segmenters.sam import SamEmbedding, SamSegmenter
from pipeline.segmenters.sam_memory import AskedCells, CellLimits, object_box
from tests.pipeline.memory.test_crstm import naive_read
from tests.tiny_sam import build_tiny_sam

GRID_HW = 64, 64
IMAGE_HW = 36, 64
"""What a frame of 16:9 covers."""
KEYS = torch.randn((4096, 8), generator=torch.Generator().manual_seed(0))
BOX_PX = (200.0, 150.0, 320.0, 240.0)


@cache
def segmenter() -> SamSegmenter:
    return SamSegmenter(build_tiny_sam(), name="tiny")


@cache
def embedding() -> SamEmbedding:
    return segmenter().embed(np.random.default_rng(0).integers(0, 255, (480, 854, 3), dtype=np.uint8))


def around(box_cells: tuple[float, float, float, float] | None, limit: int | None = None) -> AskedCells:
    return AskedCells.around(KEYS, GRID_HW, IMAGE_HW, box_cells, limit)


def block(rows: slice, columns: slice) -> FloatMap:
    """Logits (256, 256) of a rectangle."""
    logits = np.full((256, 256), -8, np.float32)
    logits[rows, columns] = 8
    return logits


def test_the_cells_around_the_object_are_asked_and_never_the_padding() -> None:
    asked = around((10, 12, 20, 17))
    assert (asked.rows[0], asked.rows[-1], asked.columns[0], asked.columns[-1]) == (6, 22, 4, 25)
    assert asked.n_cells < 0.2 * IMAGE_HW[0] * IMAGE_HW[1]
    whole = around(None)
    assert whole.n_cells == 36 * 64
    assert (whole.rows[-1], whole.columns[-1]) == (35, 63)
    assert around((-9, -9, -5, -5)).n_cells >= 1
    low = around((0, 34, 64, 64))
    assert low.rows[-1] == 35
    torch.testing.assert_close(asked.query().keys.T, KEYS.reshape(64, 64, 8)[6:23, 4:26].reshape(-1, 8))


@pytest.mark.parametrize("box", [None, (0.0, 0.0, 40.0, 30.0), (3.0, 2.0, 60.0, 3.0)])
def test_a_bounded_query_asks_a_lattice_over_the_same_cells(box: tuple[float, float, float, float] | None) -> None:
    every, some = around(box), around(box, limit=300)
    assert 100 < some.n_cells <= 300 < every.n_cells
    for lattice, cells in ((some.rows, every.rows), (some.columns, every.columns)):
        assert (lattice[0], lattice[-1]) == (cells[0], cells[-1])
        assert len(set(np.diff(lattice).tolist())) <= 2
    # What changes evenly over the frame is the same whether all cells were asked or some.
    plane = torch.arange(64.0)[:, None] + 2 * torch.arange(64.0)
    mixed = []
    for asked in (every, some):
        values = plane[asked.rows][:, asked.columns].reshape(1, -1)
        dense = torch.zeros((1, *GRID_HW))
        asked.mix(dense, MemoryReadout(asked.query(), values, 0.25))
        mixed.append(dense)
    torch.testing.assert_close(mixed[1], mixed[0], atol=1.2, rtol=0)


def test_what_was_read_is_mixed_in_around_the_object_alone() -> None:
    asked = around((10, 12, 20, 17))
    dense = torch.full((3, *GRID_HW), 4.0)
    asked.mix(dense, MemoryReadout(asked.query(), torch.full((3, asked.n_cells), 8.0), 0.25))
    inside = torch.zeros(GRID_HW, dtype=torch.bool)
    inside[6:23, 4:26] = True
    assert (dense[:, inside] == 7.0).all()
    assert (dense[:, ~inside] == 4.0).all()


def test_a_frame_stores_the_cells_of_the_image() -> None:
    stored = around(None).stored(block(slice(40, 80), slice(40, 80)) > 0, None)
    assert stored.tolist() == [row * 64 + column for row in range(36) for column in range(64)]


@pytest.mark.parametrize(
    ("rows", "columns", "on_object"),
    [
        (slice(40, 48), slice(40, 48), 4),
        (slice(0, 120), slice(0, 240), 256),
        (slice(0, 144), slice(0, 256), 512),
        (slice(61, 62), slice(61, 62), 1),
    ],
    ids=["small", "large", "fills the frame", "a dot"],
)
def test_a_bounded_frame_stores_most_of_the_object_and_something_of_the_rest(
    rows: slice, columns: slice, on_object: int
) -> None:
    mask = block(rows, columns) > 0
    stored = around(None).stored(mask, 512)
    assert len(stored) == len(set(stored.tolist())) == 512
    assert int(stored.max()) < 36 * 64
    cells = mask.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert int((cells.ravel()[stored] >= min(0.5, cells.max())).sum()) >= on_object
    assert stored.tolist() == around(None).stored(mask, 512).tolist(), "not by chance"


def test_the_object_s_box_holds_mask_and_prompted_box() -> None:
    mask = block(slice(40, 80), slice(80, 120))
    prompts = ObjectPrompts(box_xyxy_px=(100.0, 100.0, 200.0, 200.0))
    assert object_box(mask, ObjectPrompts(), 0.1, GRID_HW) == (20.0, 10.0, 30.0, 20.0)
    assert object_box(mask, prompts, 0.1, GRID_HW) == (10.0, 10.0, 30.0, 20.0)
    assert object_box(np.full((256, 256), -1, np.float32), prompts, 0.1, GRID_HW) is None


@pytest.mark.parametrize("limits", [CellLimits(), CellLimits(asked=60, stored=100)], ids=["all cells", "bounded"])
def test_the_cells_that_take_part_are_read_by_the_equations(
    limits: CellLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter(), "_cell_limits", limits)
    prompts = PromptBatch((ObjectPrompts(box_xyxy_px=BOX_PX),))
    mask, remembered = block(slice(45, 72), slice(60, 96)), block(slice(45, 90), slice(60, 80))
    found = segmenter().segment(embedding(), prompts, mask_input=[mask])
    query = found.queries[0]
    entry = segmenter().memorise(embedding(), query, remembered)
    assert entry.keys.shape[1] == (limits.stored or 36 * 64)
    bank = MemoryBank(64)
    bank.store(0, entry, interaction=True)
    readout = bank.read(query, 20, 0.5)
    assert readout is not None
    asked: AskedCells = query.cells
    few = slice(0, asked.n_cells, max(1, asked.n_cells // 12))
    whole_values = segmenter()._dense([remembered])[0].flatten(1)
    stored = asked.stored(remembered > 0, limits.stored)
    cells = asked.cells[few]
    wanted = naive_read((asked.all_keys[stored].T, whole_values[:, stored], asked.all_keys[cells].T), 20)
    np.testing.assert_allclose(readout.values[:, few].numpy(), wanted, atol=1e-3)
    mixed = segmenter().segment(embedding(), prompts, mask_input=[mask], readout=[readout])
    assert np.abs(mixed.low_res_logits - found.low_res_logits).max() > 1e-3


def test_an_empty_mask_stores_nothing() -> None:
    found = segmenter().segment(embedding(), PromptBatch((ObjectPrompts(box_xyxy_px=BOX_PX),)))
    entry = segmenter().memorise(embedding(), found.queries[0], np.full((256, 256), -8, np.float32))
    assert entry.keys.shape == entry.values.shape == (256, 0)


def test_only_a_cpu_has_bounds() -> None:
    assert CellLimits.on(torch.device("cuda:0")) == CellLimits(None, None)
    bounds = CellLimits.on(torch.device("cpu"))
    assert bounds.asked is not None
    assert bounds.stored is not None
    # A memory of prompted frames and all slots of `i_pt`.
    assert bounds.asked * 22 * bounds.stored <= 7 * 10**6
