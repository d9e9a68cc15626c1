"""Downloads from a server that behaves badly: nothing half-written is used, and the next attempt succeeds."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from model_zoo import download as module
from model_zoo.download import ARRIVAL_BYTES, ATTEMPTS, DownloadError, PartialFile, copy, download
from model_zoo.registry import ModelFile
from tests.model_zoo.file_server import Answer, FileServer, serving

BODY = random.Random(5).randbytes(3_000_000)
"""Longer than two chunks."""
OTHER = random.Random(6).randbytes(len(BODY))
PATH = "/m/weights.pth"


def described(body: bytes = BODY, *, sha256: bool = True, size: bool = True) -> ModelFile:
    """A row of the registry for these bytes."""
    return ModelFile(
        name="weights.pth",
        sha256=hashlib.sha256(body).hexdigest() if sha256 else None,
        size_bytes=len(body) if size else None,
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as served:
        served.files[PATH] = BODY
        yield served


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def fetch(server: FileServer, target: Path, file: ModelFile | None = None) -> str:
    """Download the file; returns its SHA-256."""
    return download(file or described(), server.url + PATH, target)


def assert_then_succeeds(server: FileServer, target: Path) -> None:
    """Nothing has the file's name now, and the next attempt brings the right bytes."""
    assert not target.exists()
    assert fetch(server, target) == hashlib.sha256(BODY).hexdigest()
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_good_server(server: FileServer, target: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    digest = download(
        described(), server.url + PATH, target, report=lambda name, done, total: seen.append((name, done, total))
    )
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert seen[0] == ("weights.pth", 0, len(BODY))
    assert seen[-1] == ("weights.pth", len(BODY), len(BODY))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_broken_transfer_goes_on_where_it_ended(server: FileServer, target: Path, framing: str) -> None:
    server.plan[PATH] = [Answer(cut_at=1_200_000, framing=framing), Answer(cut_at=500_000, framing=framing)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    first, second, third = (asked.removeprefix("bytes=").removesuffix("-") for asked in server.ranges(PATH))
    assert first == ""
    assert 1_200_000 - ARRIVAL_BYTES <= int(second) <= 1_200_000
    assert 500_000 - ARRIVAL_BYTES <= int(third) - int(second) <= 500_000


def test_transfer_that_keeps_breaking_fails_and_the_next_pull_goes_on(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(cut_at=100_000) for _ in range(ATTEMPTS)]
    with pytest.raises(DownloadError, match=f"broke off {ATTEMPTS} times .* next pull goes on from there") as caught:
        fetch(server, target)
    assert "\n" not in str(caught.value)
    arrived = target.with_name("weights.pth.part").stat().st_size
    assert 0 < arrived <= ATTEMPTS * 100_000
    assert_then_succeeds(server, target)
    assert server.ranges(PATH)[-1] == f"bytes={arrived}-"


def test_wrong_bytes_are_thrown_away(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(body=OTHER)]
    with pytest.raises(DownloadError, match=f"{hashlib.sha256(BODY).hexdigest()}.*{hashlib.sha256(OTHER).hexdigest()}"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []
    assert_then_succeeds(server, target)


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"x", b""], ids=["short", "long", "empty"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_wrong_length_is_thrown_away(server: FileServer, target: Path, body: bytes, framing: str) -> None:
    server.plan[PATH] = [Answer(body=body, framing=framing) for _ in range(ATTEMPTS)]
    with pytest.raises(DownloadError, match=rf"{len(BODY)} bytes|of {len(BODY)}"):
        fetch(server, target)
    server.plan.clear()
    assert_then_succeeds(server, target)


def test_wrong_length_is_noticed_before_the_bytes_are_fetched(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(body=BODY + b"x")]
    with pytest.raises(DownloadError, match=f"expected weights.pth of {len(BODY)} bytes, but .* has {len(BODY) + 1}"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusal_is_one_line_with_address_and_advice(server: FileServer, target: Path, status: int) -> None:
    server.plan[PATH] = [Answer(status=status)]
    with pytest.raises(DownloadError, match=f"{status} .*IVOS_MODEL_MIRROR") as caught:
        fetch(server, target)
    assert server.url + PATH in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_then_succeeds(server, target)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_server_is_asked_again(server: FileServer, target: Path, status: int) -> None:
    server.plan[PATH] = [Answer(status=status), Answer(status=status)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 3


def test_server_that_stays_busy(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(status=503) for _ in range(module.RETRIES + 1)]
    with pytest.raises(DownloadError, match="answers 503"):
        fetch(server, target)
    assert_then_succeeds(server, target)


def test_server_that_is_not_there(target: Path) -> None:
    with serving() as gone:
        pass
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*refused\)") as caught:
        fetch(gone, target)
    assert "\n" not in str(caught.value)


def test_redirects_are_followed_also_when_going_on(server: FileServer, target: Path) -> None:
    server.files["/elsewhere"] = BODY
    server.plan[PATH] = [Answer(location=server.url + "/elsewhere"), Answer(location="/elsewhere")]
    server.plan["/elsewhere"] = [Answer(cut_at=1_500_000)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges("/elsewhere")[1] != ""


class _RedirectingToPlainHttp(BaseAdapter):
    """Answers every https request with a redirect to an address that is not encrypted."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.request, answer.raw = 302, request, io.BytesIO()
        answer.url = str(request.url)
        answer.headers["Location"] = self.url
        return answer

    def close(self) -> None:
        """Nothing is open."""


def test_redirect_away_from_encryption_is_refused(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = requests.Session()
    session.mount("https://", _RedirectingToPlainHttp(server.url + PATH))
    monkeypatch.setattr(module, "_session", lambda: session)
    with pytest.raises(DownloadError, match="not encrypted"):
        download(described(), "https://weights.test/weights.pth", target)
    assert list(target.parent.iterdir()) == []


def test_server_that_ignores_ranges_starts_anew(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(cut_at=1_200_000), Answer(ranges=False)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH)[1] != ""


def test_server_without_versions_is_not_asked_for_a_part(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(cut_at=1_200_000, etag=False)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH) == ["", ""]


@pytest.mark.parametrize("content_range", ["bytes 7-2999999/3000000", "bytes */3000000", "nonsense"])
def test_another_part_than_asked_for_starts_anew(server: FileServer, target: Path, content_range: str) -> None:
    server.plan[PATH] = [Answer(cut_at=1_200_000), Answer(content_range=content_range)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH)[2] == ""


def test_part_that_the_server_does_not_have_starts_anew(server: FileServer, target: Path) -> None:
    server.plan[PATH] = [Answer(cut_at=1_200_000), Answer(status=416)]
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH)[2] == ""


def test_file_that_changes_between_two_attempts_is_never_mixed(server: FileServer, target: Path) -> None:
    unverified = described(sha256=False, size=False)
    server.files[PATH] = OTHER
    server.plan[PATH] = [Answer(cut_at=1_200_000) for _ in range(ATTEMPTS)]
    server.plan[PATH][1:] = [Answer(status=404)]
    with pytest.raises(DownloadError, match="404"):
        fetch(server, target, unverified)
    server.files[PATH] = BODY
    fetch(server, target, unverified)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH)[-1].startswith("bytes=")


def test_part_of_another_address_is_not_continued(server: FileServer, target: Path) -> None:
    server.files["/old"] = OTHER
    server.plan["/old"] = [Answer(cut_at=1_200_000), Answer(status=404)]
    with pytest.raises(DownloadError, match="404"):
        download(described(OTHER), server.url + "/old", target)
    assert_then_succeeds(server, target)
    assert server.ranges(PATH) == [""]


def test_interrupted_after_the_last_byte_is_checked_without_asking(server: FileServer, target: Path) -> None:
    target.with_name("weights.pth.part").write_bytes(BODY)
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.requests == []


def test_complete_part_of_something_else_is_thrown_away(server: FileServer, target: Path) -> None:
    target.with_name("weights.pth.part").write_bytes(OTHER)
    fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges(PATH) == [""]


def test_crash_while_starting_anew_leaves_no_mixture(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = PartialFile(target)
    with part.begin("https://weights.test/w", '"old"') as output:
        output.write(b"old bytes")
    real_open = Path.open

    def crash(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if mode == "wb":
            raise KeyboardInterrupt
        return real_open(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", crash)
    with pytest.raises(KeyboardInterrupt):
        part.begin("https://weights.test/w", '"new"')
    assert part.n_bytes == 0


@pytest.mark.parametrize("sha256", [True, False])
def test_end_told_only_by_closing_is_trusted_only_with_a_checksum(
    server: FileServer, target: Path, sha256: bool
) -> None:
    server.plan[PATH] = [Answer(framing="close")]
    file = described(sha256=sha256, size=False)
    if sha256:
        fetch(server, target, file)
        assert target.read_bytes() == BODY
    else:
        with pytest.raises(DownloadError, match="does not say how long"):
            fetch(server, target, file)
        assert_then_succeeds(server, target)


def test_first_digits_of_a_checksum(server: FileServer, target: Path) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    wrong = ModelFile(name="weights.pth", sha256="0" * 8)
    with pytest.raises(DownloadError, match=rf"sha256 0{{8}}\.\.\., but .*{digest}"):
        fetch(server, target, wrong)
    assert not target.exists()
    assert fetch(server, target, ModelFile(name="weights.pth", sha256=digest[:8])) == digest


def test_proxy_of_the_environment(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    download(described(), f"http://weights.test{PATH}", target)
    assert server.targets == [f"http://weights.test{PATH}"]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("size", [True, False])
def test_full_disk_is_noticed_before_writing(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch, size: bool
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2**20, 2**20))
    with pytest.raises(DownloadError, match=r"weights.pth needs 3 MiB more, but .* has 1 MiB free"):
        fetch(server, target, described(size=size))
    assert list(target.parent.iterdir()) == []
    monkeypatch.undo()
    assert_then_succeeds(server, target)


def test_disk_that_fills_up_meanwhile(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, monkeypatch.context() as patch:
        patch.setattr(PartialFile, "begin", lambda *_: full)
        with pytest.raises(DownloadError, match="the disk is full"):
            fetch(server, target)
    assert_then_succeeds(server, target)


class TestCopy:
    """From a folder."""

    def test_right_file(self, tmp_path: Path, target: Path) -> None:
        source = tmp_path / "mirror.pth"
        source.write_bytes(BODY)
        assert copy(described(), source, target) == hashlib.sha256(BODY).hexdigest()
        assert target.read_bytes() == BODY

    @pytest.mark.parametrize("body", [OTHER, BODY[:-1]], ids=["bytes", "length"])
    def test_wrong_file(self, tmp_path: Path, target: Path, body: bytes) -> None:
        source = tmp_path / "mirror.pth"
        source.write_bytes(body)
        with pytest.raises(DownloadError, match=r"expected weights\.pth"):
            copy(described(), source, target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mirror.pth"]

    def test_missing_file(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(DownloadError, match=r"there is no such file"):
            copy(described(), tmp_path / "mirror.pth", target)
