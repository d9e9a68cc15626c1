"""The Dockerfile: nothing unpinned, nothing missing, nothing as root, and a health check that tells up from down."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ls_backend.settings import Settings
from tests.clips import REPOSITORY
from tests.docker.dockerfile import DOCKER, environment, health_command, last, lineage, stages

TARGETS = ("cpu", "gpu")


def copied_from_context() -> list[str]:
    """Every path that is copied out of the repository."""
    copies = [rest.split() for stage in stages().values() for rest in stage.all("COPY")]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert set(copied_from_context()) == kept
    assert [line for line in lines if line[:1] not in "#!"] == ["*", "**/__pycache__"]
    for path in kept:
        assert (REPOSITORY / path).exists(), path


def test_every_package_of_the_project_is_copied() -> None:
    packages = re.search(r"^packages = (\[.*\])$", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages[1])) <= set(copied_from_context())


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_takes_its_packages_from_a_stage_made_from_the_lock(target: str) -> None:
    sources = [rest.split()[0].removeprefix("--from=") for rest in stages()[target].all("COPY")]
    assert len(sources) == 1
    runs = [run for stage in lineage(sources[0]) for run in stage.all("RUN")]
    installs = [command for run in runs for command in run.split("&&") if re.search(r"pip install", command)]
    assert len(installs) == 3
    for command in installs:
        from_lock = "--require-hashes" in command and ("requirements.lock" in command or "/tmp/uv.lock" in command)
        # The project itself has no hash; what builds it is held to the lock.
        own = "--no-deps --build-constraints requirements.lock ." in command
        assert from_lock or own, command


def test_both_images_are_made_from_the_same_lock() -> None:
    assert stages()["packages-cpu"].base == "packages"
    assert stages()["packages-cpu"].instructions == (("RUN", "uv pip uninstall triton"),)
    assert "COPY --from=packages /opt/ivos" in (DOCKER / "Dockerfile").read_text()


def test_base_images_are_pinned() -> None:
    external = {stage.base for stage in stages().values()} - set(stages())
    assert external
    for base in external:
        assert re.search(r":[^:]*\d", base) or ":${" in base, base
        assert not base.endswith(":latest")


@pytest.mark.parametrize("target", TARGETS)
def test_images_do_not_run_as_root(target: str) -> None:
    user = last(target, "USER").split(":")[0]
    assert user.isdecimal()
    assert int(user) >= 1000
    after_user = False
    for keyword, rest in (pair for stage in lineage(target) for pair in stage.instructions):
        after_user = after_user or keyword == "USER"
        assert not (after_user and keyword == "RUN"), rest


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_sets_known_settings_and_keeps_its_cache_in_the_volume(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = environment(target)
    for name, value in values.items():
        if name.startswith("IVOS_"):
            monkeypatch.setenv(name, value)
    settings = Settings(basic_auth_user="user", basic_auth_pass="pass")
    assert str(settings.cache_dir) == last(target, "VOLUME") == values["HOME"]
    assert str(settings.port) == last(target, "EXPOSE")
    assert settings.host == "0.0.0.0"
    assert last(target, "CMD") == '["ivos", "serve"]'


class Health(http.server.BaseHTTPRequestHandler):
    """Answers as its server's ``status`` says."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    listening = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (500, False), (401, False)])
def test_the_health_check_tells_up_from_down(server: http.server.HTTPServer, status: int, healthy: bool) -> None:
    server.status = status  # type: ignore[attr-defined]
    command = health_command("cpu")
    assert command[0] == "python"
    outcome = subprocess.run(
        [sys.executable, *command[1:]], env={"IVOS_PORT": str(server.server_port)}, capture_output=True, check=False
    )
    assert (outcome.returncode == 0) == healthy
