"""The compose files: every reference resolves, nothing starts unconfigured, nothing is open that need not be."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from ls_backend.demo.environment import LOCK_PATH
from ls_backend.settings import Settings
from tests.docker.dockerfile import DOCKER, environment, stages

Json = dict[str, Any]
FILLED = {
    "LABEL_STUDIO_USERNAME": "annotator@example.com",
    "LABEL_STUDIO_PASSWORD": "pass word",
    "LABEL_STUDIO_USER_TOKEN": "0" * 40,
    "IVOS_BASIC_AUTH_USER": "backend",
    "IVOS_BASIC_AUTH_PASS": "$ecret",
}


def merged(base: Any, over: Any) -> Any:
    """Compose's rule for several files: mappings are merged, other values replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: merged(base[key], over[key]) if key in base and key in over else {**base, **over}[key]
            for key in {**base, **over}
        }
    return over


def compose(*names: str) -> Json:
    """Compose files laid over each other."""
    result: Json = {}
    for name in names:
        result = merged(result, yaml.safe_load((DOCKER / name).read_text()))
    return result


VARIANTS = pytest.mark.parametrize(
    ("names", "target"), [(("compose.yaml",), "cpu"), (("compose.yaml", "compose.gpu.yaml"), "gpu")]
)


def interpolated(value: str, variables: dict[str, str]) -> str:
    """``${NAME:-default}`` replaced, then ``$$`` made ``$``."""
    replaced = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda m: (variables.get(m[1]) or m[2]).replace("$", "$$"), value)
    return replaced.replace("$$", "$")


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@VARIANTS
def test_the_backend_is_built_from_an_existing_stage(names: tuple[str, ...], target: str) -> None:
    backend = compose(*names)["services"]["backend"]
    assert backend["image"] == f"label-studio-ivos:{target}"
    assert backend["build"]["target"] == target
    assert target in stages()
    context = DOCKER / backend["build"]["context"]
    assert (context / backend["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")


@VARIANTS
def test_references_between_services_resolve(names: tuple[str, ...], target: str) -> None:
    body = compose(*names)
    services = body["services"]
    assert {"label-studio", "backend"} <= set(services), target
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services
            if wait["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"], f"{name} waits for {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in body["volumes"] or source.startswith("${")
    assert services["backend"]["depends_on"] == {"label-studio": {"condition": "service_healthy"}}


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    text = "".join((DOCKER / name).read_text() for name in ("compose.yaml", "compose.gpu.yaml"))
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert used == set(example()) - {"COMPOSE_PROJECT_NAME"}
    # Without an .env file the files still parse, so every variable has a default.
    assert set(re.findall(r"(?<!\$)\$\{\w+(:-)?", text)) == {":-"}


def test_the_example_holds_no_secret() -> None:
    assert {name for name, value in example().items() if not value} == set(FILLED)


def test_label_studio_is_the_version_the_demo_runs() -> None:
    version = re.search(r"^label-studio==([\d.]+)", LOCK_PATH.read_text(), re.MULTILINE)
    assert version is not None
    services = compose("compose.yaml")["services"]
    assert services["label-studio"]["image"] == f"heartexlabs/label-studio:{version[1]}"
    assert services["settings"]["image"] == services["label-studio"]["image"]


@VARIANTS
def test_the_backends_environment_makes_valid_settings(
    names: tuple[str, ...], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = compose(*names)["services"]["backend"]
    given = {name: interpolated(value, FILLED) for name, value in service["environment"].items()}
    for name, value in (environment(target) | given).items():
        if name.startswith("IVOS_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.basic_auth_pass.get_secret_value() == "$ecret"
    assert settings.label_studio_url == "http://label-studio:8080"
    assert settings.device == ("cuda" if target == "gpu" else "cpu")
    assert f"127.0.0.1:{settings.port}/health" in " ".join(service["healthcheck"]["test"])
    assert f"backend-cache:{settings.cache_dir}" in service["volumes"]


@pytest.mark.parametrize("missing", [*FILLED, None])
def test_nothing_starts_before_all_secrets_are_set(missing: str | None) -> None:
    services = compose("compose.yaml")["services"]
    check = services["settings"]
    assert services["label-studio"]["depends_on"] == {"settings": {"condition": "service_completed_successfully"}}
    variables = {name: "" if name == missing else value for name, value in FILLED.items()}
    given = {name: interpolated(value, variables) for name, value in check["environment"].items()}
    command = [interpolated(word, variables) for word in check["entrypoint"]]
    outcome = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert (outcome.returncode == 0) == (missing is None)
    if missing:
        assert f"{missing}: is empty: copy docker/.env.example to docker/.env" in outcome.stderr


def test_what_is_reachable_from_outside() -> None:
    services = compose("compose.yaml")["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["label-studio"]
    assert interpolated(services["label-studio"]["ports"][0], {}) == "127.0.0.1:8080:8080"
    assert services["backend"]["read_only"] is True
    assert services["backend"]["cap_drop"] == ["ALL"]
    frames = [volume for volume in services["label-studio"]["volumes"] if volume.startswith("${FRAMES_DIR")]
    assert [interpolated(volume, {}) for volume in frames] == ["./frames:/label-studio/files:ro"]
    assert services["label-studio"]["environment"]["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == "/label-studio/files"


def test_the_gpu_is_reserved_for_the_backend() -> None:
    services = compose("compose.yaml", "compose.gpu.yaml")["services"]
    devices = services["backend"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert not any("deploy" in service for name, service in services.items() if name != "backend")
