"""Official code is imported without a trace, and says in one line what is missing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from model_zoo.extras import MissingExtraError
from model_zoo.official_code import OfficialCodeError, importing, load_module


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Code as researchers write it: packages named lib and utils, one of them without ``__init__``."""
    folder = tmp_path / "code"
    (folder / "lib" / "models").mkdir(parents=True)
    (folder / "utils").mkdir()
    (folder / "lib" / "__init__.py").write_text("")
    (folder / "lib" / "models" / "__init__.py").write_text("from .net import Net\n")
    (folder / "lib" / "models" / "net.py").write_text(
        "import torch\nimport utils.basic\nfrom lib import settings\n\ntorch.manual_seed(0)\n\n\n"
        "class Net:\n    def run(self):\n        return utils.basic.double(settings.WIDTH)\n"
    )
    (folder / "lib" / "settings.py").write_text("WIDTH = 21\n")
    (folder / "utils" / "basic.py").write_text("def double(value):\n    return 2 * value\n")
    (folder / "lib" / "needy.py").write_text("import surely_not_installed.part\n")
    (folder / "lib" / "partial.py").write_text("import lib.gone\n")
    (folder / "lib" / "ill.py").write_text("def broken(:\n")
    (folder / "lib" / "lazy.py").write_text("def make():\n    from lib.settings import WIDTH\n\n    return WIDTH\n")
    return folder


@pytest.fixture
def somebody_elses_utils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module ``utils`` that the rest of the program uses."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "utils.py").write_text("OWNER = 'somebody else'\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    import utils  # type: ignore[import-not-found]

    yield utils
    sys.modules.pop("utils", None)


def test_modules_work_after_they_are_loaded(code: Path) -> None:
    assert load_module(code, "lib.models", part="tracker x").Net().run() == 42


def test_nothing_stays_behind(code: Path) -> None:
    before, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    load_module(code, "lib.models.net", part="tracker x")
    assert {name for name in set(sys.modules) - set(before) if name.split(".")[0] in ("lib", "utils")} == set()
    assert (sys.path, sys.meta_path) == (path, finders)
    assert not list(code.rglob("*.pyc"))


def test_other_modules_of_the_same_name_are_left_alone(code: Path, somebody_elses_utils: ModuleType) -> None:
    net = load_module(code, "lib.models", part="tracker x").Net()
    assert sys.modules["utils"] is somebody_elses_utils
    assert net.run() == 42
    import utils

    assert utils.OWNER == "somebody else"


def test_two_codes_with_modules_of_the_same_name_do_not_meet(code: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "lib").mkdir(parents=True)
    (other / "lib" / "settings.py").write_text("WIDTH = 4\n")
    first = load_module(code, "lib.settings", part="tracker x")
    second = load_module(other, "lib.settings", part="tracker y")
    assert (first.WIDTH, second.WIDTH) == (21, 4)


def test_imports_at_call_time_work_inside_the_block(code: Path) -> None:
    with importing(code, part="tracker x") as load:
        assert load("lib.lazy").make() == 21


def test_other_threads_do_not_see_the_folder(code: Path) -> None:
    found: list[str] = []

    def look() -> None:
        try:
            __import__("lib.settings")
        except ModuleNotFoundError as error:
            found.append(str(error.name))

    with importing(code, part="tracker x"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert found == ["lib"]


def test_threads_load_one_after_the_other(code: Path, tmp_path: Path) -> None:
    folders, widths = [code], {}
    for number in range(6):
        folder = tmp_path / f"code{number}"
        (folder / "lib").mkdir(parents=True)
        (folder / "lib" / "settings.py").write_text(f"import time\ntime.sleep(0.01)\nWIDTH = {number}\n")
        folders.append(folder)

    def load(folder: Path) -> None:
        widths[folder] = load_module(folder, "lib.settings", part="tracker x").WIDTH

    threads = [threading.Thread(target=load, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [widths[folder] for folder in folders] == [21, *range(6)]
    assert "lib" not in sys.modules


def test_the_random_state_is_left_as_it_was(code: Path) -> None:
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    load_module(code, "lib.models.net", part="tracker x")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("module", "packages", "error", "words"),
    [
        ("lib.needy", {"surely_not_installed": "surely-not"}, MissingExtraError, "uv pip install surely-not"),
        ("lib.needy", {}, OfficialCodeError, "surely_not_installed"),
        ("lib.partial", {}, OfficialCodeError, "expected lib/gone.py"),
        ("lib.absent", {}, OfficialCodeError, "expected lib/absent.py"),
        ("nowhere", {}, OfficialCodeError, "expected nowhere.py"),
        ("lib.ill", {}, OfficialCodeError, "cannot be imported"),
    ],
)
def test_what_is_missing_is_one_line(
    code: Path, module: str, packages: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        load_module(code, module, part="point tracker pips", packages=packages)
    assert "\n" not in str(caught.value)
    assert "pips" in str(caught.value)
    assert not [name for name in sys.modules if name.split(".")[0] == "lib"]


def test_a_missing_folder_names_the_command_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(OfficialCodeError, match="ivos models pull pips"):
        load_module(tmp_path / "none", "nets.pips", part="point tracker pips")
