"""The models of a machine: only whole, checked files are handed out, whatever happened before."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from model_zoo import download as download_module
from model_zoo.download import DownloadError
from model_zoo.registry import Model, ModelFile, OfficialCode, load_registry
from model_zoo.store import ManualDownloadError, MissingModelError, ModelStore
from tests.clips import REPOSITORY
from tests.model_zoo.file_server import Answer, FileServer, serving
from tests.model_zoo.test_archives import FILES, TREE, write_archive
from tests.weights import MIRROR, has_shared_weights

WEIGHTS, CONFIG = b"weights" * 50_000, b'{"width": 3}'


def described(name: str, body: bytes, *, sha256: bool = True) -> ModelFile:
    """A row of the registry for these bytes."""
    digest = hashlib.sha256(body).hexdigest() if sha256 else None
    return ModelFile(name=name, url=f"https://weights.test/{name}", sha256=digest, size_bytes=len(body))


MODEL = Model(
    name="toy",
    task="segmenter",
    title="Toy",
    licence="MIT",
    paper="",
    package="",
    files=(described("weights.pth", WEIGHTS), described("config.json", CONFIG, sha256=False)),
)
CODE = OfficialCode(url="https://code.test/toy.tar.gz", commit="c" * 40, tree=TREE, licence="MIT")
WITH_CODE = replace(MODEL, name="coded", code=CODE)
MANUAL = replace(
    MODEL,
    name="manual",
    files=(replace(MODEL.files[0], url=""),),
    manual_page="https://page.test",
    manual_note="the big one",
)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror folder with everything."""
    folder = tmp_path / "mirror"
    for model in (MODEL, WITH_CODE, MANUAL):
        (folder / model.name).mkdir(parents=True)
        (folder / model.name / "weights.pth").write_bytes(WEIGHTS)
        (folder / model.name / "config.json").write_bytes(CONFIG)
    write_archive(folder / "coded" / CODE.archive_name, FILES)
    return folder


@pytest.fixture
def store(tmp_path: Path, mirror: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", str(mirror))


@pytest.fixture
def server(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server with the mirror's files."""
    monkeypatch.setattr(download_module, "BACKOFF_S", 0.0)
    with serving() as served:
        for path in mirror.rglob("*.*"):
            served.files[f"/{path.relative_to(mirror)}"] = path.read_bytes()
        yield served


def names_in(folder: Path) -> list[str]:
    """What is in a folder, but the lock and the receipts."""
    return sorted(path.name for path in folder.iterdir() if path.name not in (".lock", "checked.json"))


def test_pulled_model(store: ModelStore) -> None:
    assert not store.has(MODEL)
    seen: set[str] = set()
    weights, config = store.pull(MODEL, report=lambda name, *_: seen.add(name))
    assert store.has(MODEL)
    assert store.file(MODEL) == store.folder_of(MODEL) / "weights.pth" == weights.path
    assert store.file(MODEL, "config.json").read_bytes() == CONFIG
    assert (weights.checked, config.checked) == (True, False)
    assert config.sha256 == hashlib.sha256(CONFIG).hexdigest()
    assert seen == {"weights.pth", "config.json"}
    assert store.verify(MODEL) == []
    assert names_in(store.folder_of(MODEL)) == ["config.json", "weights.pth"]


def test_what_is_here_is_not_pulled_again(store: ModelStore, mirror: Path) -> None:
    first = store.pull(MODEL)
    shutil.rmtree(mirror)
    assert store.pull(MODEL) == first


def test_missing_model(store: ModelStore) -> None:
    with pytest.raises(MissingModelError) as caught:
        store.file("mobile_sam")
    assert str(caught.value) == (
        "the weights of mobile_sam are not on this machine; get them with: ivos models pull mobile_sam"
    )
    with pytest.raises(MissingModelError, match=r"official code of cotracker3 .* ivos models pull cotracker3"):
        store.code("cotracker3")
    with pytest.raises(ValueError, match="no model is called 'mobile_samm'; did you mean mobile_sam"):
        store.file("mobile_samm")
    with pytest.raises(ValueError, match=r"toy has no file 'other'; it has weights\.pth, config\.json"):
        store.file(MODEL, "other")
    with pytest.raises(ValueError, match="needs no code"):
        store.code(MODEL)
    assert len(store.verify(MODEL)) == 2


@pytest.mark.parametrize("body", [WEIGHTS[:-1], b"x" + WEIGHTS[1:]], ids=["length", "bytes"])
def test_wrong_file_put_there_by_hand_is_not_handed_out(store: ModelStore, body: bytes) -> None:
    folder = store.folder_of(MODEL)
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(body)
    (folder / "config.json").write_bytes(CONFIG)
    assert store.has(MODEL) == (len(body) == len(WEIGHTS))
    with pytest.raises(MissingModelError, match=r"expected .*weights\.pth with .* ivos models pull toy"):
        store.file(MODEL)
    assert len(store.verify(MODEL)) == 1
    store.pull(MODEL)
    assert store.file(MODEL).read_bytes() == WEIGHTS


def test_file_changed_after_the_pull_is_not_handed_out(store: ModelStore) -> None:
    store.pull(MODEL)
    store.file(MODEL)
    (store.folder_of(MODEL) / "weights.pth").write_bytes(b"x" + WEIGHTS[1:])
    with pytest.raises(MissingModelError):
        store.file(MODEL)


@pytest.mark.parametrize("name", ["weights.pth", "config.json"])
def test_verify_reads_the_bytes_again(store: ModelStore, name: str) -> None:
    store.pull(MODEL)
    path = store.folder_of(MODEL) / name
    before = path.stat()
    path.write_bytes(b"x" + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (problem,) = store.verify(MODEL)
    assert name in problem
    store.pull(MODEL)
    assert store.verify(MODEL) == []


def test_right_file_put_there_by_hand_is_read_once(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder_of(MANUAL)
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(WEIGHTS)
    assert store.file(MANUAL).read_bytes() == WEIGHTS
    monkeypatch.setattr("model_zoo.store.sha256_of", lambda path: pytest.fail(f"{path} was read again"))
    assert store.file(MANUAL) == folder / "weights.pth"


def test_damaged_receipts_are_no_receipts(store: ModelStore) -> None:
    store.pull(MODEL)
    for text in ("", "[]", "{", '{"weights.pth": {"sha256": 1}}', '{"weights.pth": null}'):
        (store.folder_of(MODEL) / "checked.json").write_text(text)
        assert store.file(MODEL).read_bytes() == WEIGHTS


class TestMirrors:
    """Folders and addresses with the layout of the models' folder."""

    def test_url(self, tmp_path: Path, server: FileServer) -> None:
        store = ModelStore(tmp_path / "models", server.url + "/")
        store.pull(WITH_CODE)
        assert store.verify(WITH_CODE) == []
        assert [path for path, _ in server.requests] == [
            f"/coded/{CODE.archive_name}",
            "/coded/weights.pth",
            "/coded/config.json",
        ]

    def test_folder_of_models_is_a_mirror(self, tmp_path: Path, store: ModelStore) -> None:
        store.pull(WITH_CODE)
        other = ModelStore(tmp_path / "other", str(store.folder))
        other.pull(WITH_CODE)
        assert other.verify(WITH_CODE) == []

    def test_file_that_the_mirror_lacks(self, store: ModelStore, mirror: Path) -> None:
        (mirror / "toy" / "weights.pth").unlink()
        with pytest.raises(DownloadError, match=str(mirror / "toy" / "weights.pth")):
            store.pull(MODEL)
        assert not store.has(MODEL)

    def test_real_weights(self, tmp_path: Path) -> None:
        names = ("nanotrack_v2", "xfeat")
        folder = MIRROR if has_shared_weights() else _generated(tmp_path / "generated", names)
        models = {name: load_registry()[name] if has_shared_weights() else _described(folder / name) for name in names}
        store = ModelStore(tmp_path / "models", str(folder))
        for name, model in models.items():
            store.pull(model)
            assert store.verify(model) == []
            for file in model.files:
                assert store.file(model, file.name).read_bytes() == (folder / name / file.name).read_bytes()


def _generated(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.onnx").write_bytes(name.encode() * 1000)
    return folder


def _described(folder: Path) -> Model:
    files = tuple(described(path.name, path.read_bytes()) for path in sorted(folder.iterdir()))
    return replace(MODEL, name=folder.name, files=files)


class TestCode:
    """Official code beside the weights."""

    def test_pulled_code(self, store: ModelStore) -> None:
        store.pull(WITH_CODE)
        folder = store.code(WITH_CODE)
        assert folder == store.folder_of(WITH_CODE) / "code" / CODE.commit
        assert (folder / "lib" / "x.py").read_bytes() == FILES["lib/x.py"]
        assert store.has(WITH_CODE)
        (folder / "lib" / "x.py").write_bytes(b"x = 2\n")
        (problem,) = store.verify(WITH_CODE)
        assert TREE in problem
        store.pull(WITH_CODE)
        assert store.verify(WITH_CODE) == []

    def test_code_of_another_commit_does_not_count(self, store: ModelStore) -> None:
        store.pull(WITH_CODE)
        newer = replace(WITH_CODE, code=replace(CODE, commit="d" * 40))
        assert not store.has(newer)
        with pytest.raises(MissingModelError):
            store.code(newer)

    def test_wrong_archive_is_thrown_away(self, store: ModelStore, mirror: Path) -> None:
        write_archive(mirror / "coded" / CODE.archive_name, {**FILES, "evil.py": b""})
        with pytest.raises(DownloadError, match=f"the code of coded was thrown away: .*{TREE}"):
            store.pull(WITH_CODE)
        assert names_in(store.folder_of(WITH_CODE)) == ["code"]
        assert list((store.folder_of(WITH_CODE) / "code").iterdir()) == []
        write_archive(mirror / "coded" / CODE.archive_name, FILES)
        store.pull(WITH_CODE)
        assert store.verify(WITH_CODE) == []

    def test_damaged_code_is_pulled_again(self, store: ModelStore) -> None:
        store.pull(WITH_CODE)
        shutil.rmtree(store.code(WITH_CODE))
        assert not store.has(WITH_CODE)
        store.pull(WITH_CODE)
        assert store.verify(WITH_CODE) == []


def test_file_for_people_only(tmp_path: Path, store: ModelStore) -> None:
    alone = ModelStore(tmp_path / "alone")
    path = alone.folder_of(MANUAL) / "weights.pth"
    with pytest.raises(ManualDownloadError, match=rf"see https://page\.test \(the big one\) and put it at {path}"):
        alone.pull(MANUAL)
    path.write_bytes(WEIGHTS)
    assert alone.pull(MANUAL)[0].checked
    assert store.pull(MANUAL)[0].path.read_bytes() == WEIGHTS


def test_interrupted_pull_goes_on(tmp_path: Path, server: FileServer) -> None:
    store = ModelStore(tmp_path / "models", server.url)

    def interrupt(_: str, done: int, __: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull(MODEL, report=interrupt)
    assert not store.has(MODEL)
    with pytest.raises(MissingModelError):
        store.file(MODEL)
    store.pull(MODEL)
    assert store.verify(MODEL) == []
    assert server.ranges("/toy/weights.pth")[1].startswith("bytes=")


SCRIPT = """
import sys
from pathlib import Path
from model_zoo.store import ModelStore
from tests.model_zoo.test_store import MODEL
print(ModelStore(Path(sys.argv[1]), sys.argv[2]).pull(MODEL, waiting=print)[0].sha256)
"""


def test_two_processes_pull_the_same_model_once(tmp_path: Path, server: FileServer) -> None:
    go_on = threading.Event()
    server.plan["/toy/weights.pth"] = [Answer(wait=go_on)]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "models"), server.url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) for _ in range(2)]
    try:
        deadline = time.monotonic() + 20
        while not server.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        go_on.set()
        outputs = [process.communicate(timeout=30)[0] for process in processes]
    finally:
        go_on.set()
        for process in processes:
            process.kill()
            process.wait()
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert [output.splitlines()[-1] for output in outputs] == [digest, digest]
    assert [path for path, _ in server.requests] == ["/toy/weights.pth", "/toy/config.json"]
    assert (tmp_path / "models" / "toy" / "weights.pth").read_bytes() == WEIGHTS


def test_waiting_for_another_process_is_said(store: ModelStore) -> None:
    said: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        started.set()
        go_on.wait(20)

    first = threading.Thread(target=store.pull, args=(MODEL, hold))
    first.start()
    assert started.wait(20)

    def say(line: str) -> None:
        said.append(line)
        go_on.set()

    store.pull(MODEL, waiting=say)
    first.join()
    assert said == ["another process is pulling toy; waiting for it"]
    assert store.verify(MODEL) == []


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may write anywhere, so it becomes somebody who may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_folder_that_may_not_be_written(mirror: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "toy").mkdir()
        (folder / "toy").chmod(0o555)
        folder.chmod(0o555)
        store = ModelStore(folder, str(mirror))
        with (
            _as_nobody(),
            pytest.raises(DownloadError, match=r"cannot be written \(Permission denied\).*IVOS_MODEL_DIR"),
        ):
            store.pull(MODEL)
        assert names_in(folder / "toy") == []
        folder.chmod(0o755)
        (folder / "toy").chmod(0o755)
        store.pull(MODEL)
        (folder / "toy" / "checked.json").unlink()
        (folder / "toy").chmod(0o555)
        with _as_nobody():
            assert store.file(MODEL).read_bytes() == WEIGHTS
            assert store.pull(MODEL)[0].checked
        (folder / "toy").chmod(0o755)
