"""A frame is embedded once: for all sessions that show it, and for the processes that come later."""

from __future__ import annotations

from pathlib import Path

import pytest

from ls_backend.protocol.payloads import SetupRequest
from ls_backend.service import PredictionService
from ls_backend.settings import Settings
from pipeline.segmenters.sam import SamSegmenter
from pipeline.types import FrameRGB
from pipeline.video.sample_clip import render_sample_clip
from tests.ls_backend.label_studio.media_server import LEGACY_TOKEN, MediaServer
from tests.ls_backend.protocol.test_prompts import box
from tests.ls_backend.test_service import PROJECT, SIZE_HW_PX, Editor
from tests.tiny_sam import register, save_checkpoint

N_FRAMES = 4


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every call of the image encoder."""
    calls: list[int] = []
    embed = SamSegmenter.embed

    def counted(segmenter: SamSegmenter, frame_rgb: FrameRGB) -> object:
        calls.append(1)
        return embed(segmenter, frame_rgb)

    monkeypatch.setattr(SamSegmenter, "embed", counted)
    return calls


def test_sessions_and_restarts_share_embeddings(
    settings: Settings, media: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[int]
) -> None:
    register(monkeypatch)
    chosen = {
        "method": "idpro",
        "segmenter": "sam_vit_b",
        "checkpoint": save_checkpoint(tmp_path / "weights.pth"),
        "device": "cpu",
        "embedding_disk_mib": 64,
    }
    frames = render_sample_clip(n_frames=N_FRAMES, size_hw_px=SIZE_HW_PX).frames
    urls = [media.put(f"{index}.png", frame) for index, frame in enumerate(frames)]
    seen = []
    for task_ids in ((1, 2), (3,)):
        service = PredictionService(settings.model_copy(update=chosen))
        service.setup(SetupRequest(project=PROJECT, hostname=media.url, access_token=LEGACY_TOKEN))
        for task_id in task_ids:
            answer = Editor(service, urls, task_id).prompt(box())
            assert answer["warnings"] == []
            seen.append(len(embedded))
        service.close()
    assert seen == [N_FRAMES] * 3
    assert sum(path.stat().st_size for path in (settings.cache_dir / "embeddings").rglob("*.val")) <= 64 * 2**20
