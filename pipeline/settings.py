"""The settings that every command needs, read from ``IVOS_*`` environment variables: where weights and caches are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_zoo.store import ModelStore

PREFIX = "IVOS_"


class ModelSettings(BaseSettings):
    """Where weights are kept and where they come from. The backend's settings extend these.

    Raises:
        pydantic.ValidationError: a value is out of range, or a variable is no setting of this class or of one that
            extends it and is imported.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("label-studio-ivos"),
        description="Folder of frames, embeddings, stored sessions and `connections.json`, which holds tokens. Empty: "
        "`label-studio-ivos` in the user's cache folder.",
    )
    model_dir: Path | None = Field(default=None, description="Folder of weights. Empty: `models` in the cache folder.")
    model_mirror: str = Field(
        default="", description="Folder or URL to take weights from. Empty: their official addresses."
    )

    @property
    def model_store(self) -> ModelStore:
        """The model zoo on this machine."""
        return ModelStore((self.model_dir or self.cache_dir / "models").expanduser(), self.model_mirror)

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_variables(cls, values: dict[str, object]) -> dict[str, object]:
        known = {PREFIX + name.upper() for name in _field_names(ModelSettings)}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return values


def _field_names(kind: type[BaseSettings]) -> Iterator[str]:
    """The fields of a settings class and of all that extend it."""
    yield from kind.model_fields
    for extended in kind.__subclasses__():
        yield from _field_names(extended)


def settings_message(error: ValidationError) -> str:
    """What is wrong with the settings, one line each. Values are left out: they may be passwords."""
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = PREFIX + "_".join(str(part) for part in detail["loc"]).upper() if detail["loc"] else "settings"
        lines.append(f"{name}: {detail['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
