"""The Dockerfile and the compose files, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ls_backend.demo.environment import LOCK_PATH
from ls_backend.settings import Settings
from tests.clips import REPOSITORY

DOCKER = REPOSITORY / "docker"
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text()
SECRETS = {
    "LABEL_STUDIO_USERNAME": "annotator@example.com",
    "LABEL_STUDIO_PASSWORD": "pass word",
    "LABEL_STUDIO_USER_TOKEN": "0" * 40,
    "IVOS_BASIC_AUTH_USER": "backend",
    "IVOS_BASIC_AUTH_PASS": "$ecret",
}
FILES_AND_TARGETS = pytest.mark.parametrize(
    ("files", "target"), [(("compose.yaml",), "cpu"), (("compose.yaml", "compose.gpu.yaml"), "gpu")]
)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile as (keyword, rest), continued lines joined."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined if line)]


def image(target: str) -> dict[str, list[str]]:
    """The instructions of a build stage and of the stages it is built on, by keyword and in order."""
    bases: dict[str, str] = {}
    stages: dict[str, list[tuple[str, str]]] = {}
    for keyword, rest in instructions():
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            bases[name], stages[name] = base, []
        elif stages:
            stages[name].append((keyword, rest))
    found: dict[str, list[str]] = {}
    while target in stages:
        for keyword, rest in reversed(stages[target]):
            found.setdefault(keyword, []).insert(0, rest)
        target = bases[target]
    return found


def variables(target: str) -> dict[str, str]:
    """The environment variables that an image sets."""
    return dict(pair.split("=", 1) for rest in image(target)["ENV"] for pair in rest.split())


def compose(*files: str) -> dict[str, Any]:
    """Compose files, each merged into those before it: mappings are merged, other values replaced."""

    def merged(base: Any, over: Any) -> Any:
        if not (isinstance(base, dict) and isinstance(over, dict)):
            return over
        return base | {key: merged(base.get(key), value) for key, value in over.items()}

    result: dict[str, Any] = {}
    for name in files:
        result = merged(result, yaml.safe_load((DOCKER / name).read_text()))
    return result


def interpolated(value: str, given: dict[str, str]) -> str:
    """The value with ``${NAME:-default}`` replaced, then ``$$`` by ``$``."""
    replaced = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda m: (given.get(m[1]) or m[2]).replace("$", "$$"), value)
    return replaced.replace("$$", "$")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copies = [rest.split() for keyword, rest in instructions() if keyword == "COPY"]
    copied = {path for words in copies if not words[0].startswith("--from") for path in words[:-1]}
    ignore_file = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignore_file if line.startswith("!")}
    assert all((REPOSITORY / path).exists() for path in copied)
    packages = re.search(r"^packages = (\[.*\])$", PYPROJECT, re.MULTILINE)
    assert packages is not None
    assert set(json.loads(packages[1])) < copied


def test_python_and_the_extras_are_those_of_the_project() -> None:
    version = re.search(r"^ARG PYTHON_VERSION=3\.(\d+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    supported = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', PYPROJECT, re.MULTILINE)
    assert version is not None
    assert supported is not None
    assert int(supported[1]) <= int(version[1]) < int(supported[2])
    extras = {name for rest in image("packages")["RUN"] for name in re.findall(r"--extra (\w+)", rest)}
    assert extras
    assert all(re.search(rf"^{name} = \[", PYPROJECT, re.MULTILINE) for name in extras)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_sets_known_settings_and_keeps_its_cache_in_the_volume(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(target).items():
        if name.startswith("IVOS_"):
            monkeypatch.setenv(name, value)
    settings = Settings(basic_auth_user="user", basic_auth_pass="pass")
    assert [str(settings.cache_dir)] == image(target)["VOLUME"] == [variables(target)["HOME"]]
    assert [str(settings.port)] == image(target)["EXPOSE"]
    assert settings.host == "0.0.0.0"


@FILES_AND_TARGETS
def test_what_the_services_name_exists(files: tuple[str, ...], target: str) -> None:
    body = compose(*files)
    services = body["services"]
    build = services["backend"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")
    assert build["target"] == target
    assert image(target)["CMD"] == ['["ivos", "serve"]']
    for service in services.values():
        for other, wait in service.get("depends_on", {}).items():
            assert wait["condition"] != "service_healthy" or services[other]["healthcheck"]["test"]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in body["volumes"] or source.startswith("${")


def test_every_variable_of_the_example_is_used_and_the_other_way_round() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+):-", (DOCKER / "compose.yaml").read_text()))
    example = re.findall(r"^(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    assert used == set(example) - {"COMPOSE_PROJECT_NAME"}


def test_label_studio_has_the_version_that_the_demo_runs() -> None:
    version = re.search(r"^label-studio==([\d.]+)", LOCK_PATH.read_text(), re.MULTILINE)
    assert version is not None
    services = compose("compose.yaml")["services"]
    images = {services[name]["image"] for name in ("label-studio", "settings")}
    assert images == {f"heartexlabs/label-studio:{version[1]}"}


@FILES_AND_TARGETS
def test_the_backends_environment_makes_valid_settings(
    files: tuple[str, ...], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = compose(*files)["services"]["backend"]
    given = {name: interpolated(value, SECRETS) for name, value in service["environment"].items()}
    for name, value in (variables(target) | given).items():
        if name.startswith("IVOS_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.basic_auth_pass.get_secret_value() == "$ecret"
    assert settings.label_studio_url == "http://label-studio:8080"
    assert settings.device == ("cuda" if target == "gpu" else "cpu")
    assert f"127.0.0.1:{settings.port}/health" in " ".join(service["healthcheck"]["test"])
    assert f"backend-cache:{settings.cache_dir}" in service["volumes"]


def test_nothing_starts_before_all_secrets_are_set() -> None:
    services = compose("compose.yaml")["services"]
    assert services["label-studio"]["depends_on"] == {"settings": {"condition": "service_completed_successfully"}}
    assert services["backend"]["depends_on"] == {"label-studio": {"condition": "service_healthy"}}
    check = services["settings"]
    for missing in (*SECRETS, None):
        given = {name: "" if name == missing else value for name, value in SECRETS.items()}
        environment = {name: interpolated(value, given) for name, value in check["environment"].items()}
        command = [interpolated(word, given) for word in check["entrypoint"]]
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (outcome.returncode == 0) == (missing is None)
        assert missing is None or f"{missing}: is empty: copy docker/.env.example to docker/.env" in outcome.stderr


class Health(http.server.BaseHTTPRequestHandler):
    """Answers ``/health`` with its server's ``status``."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    listening = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_the_health_check_tells_healthy_from_unhealthy(server: http.server.HTTPServer) -> None:
    (check,) = image("cpu")["HEALTHCHECK"]
    _, *arguments = json.loads(check.partition("CMD ")[2])
    for status, healthy in ((200, True), (500, False), (401, False)):
        server.status = status  # type: ignore[attr-defined]
        outcome = subprocess.run(
            [sys.executable, *arguments], env={"IVOS_PORT": str(server.server_port)}, capture_output=True, check=False
        )
        assert (outcome.returncode == 0) == healthy
