"""Every setting of the backend, read from ``IVOS_*`` environment variables once, in this one place."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "IVOS_"


class Settings(BaseSettings):
    """Settings of `ivos serve` and of the WSGI module. Field ``port`` is read from ``IVOS_PORT``, and so on.

    Raises:
        pydantic.ValidationError: a value is out of range, a name is unknown, or neither credentials nor
            ``IVOS_AUTH_DISABLED=true`` are given.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(9090, ge=1, le=65535)
    threads: int = Field(8, ge=2, description="Request threads; at least two, so that /health answers during a round.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    basic_auth_user: str = ""
    basic_auth_pass: SecretStr = SecretStr("")
    auth_disabled: bool = Field(False, description="Serve without a password. Only for a closed network.")

    label_studio_url: str = Field("", description="Empty: the address Label Studio sends in /setup.")
    label_studio_token: SecretStr = Field(SecretStr(""), description="Legacy or personal access token; empty: /setup's.")

    method: str = "joint_tracking"
    segmenter: str = "classical"
    box_tracker: Literal["mask_box", "opencv_mil"] = "opencv_mil"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")

    cache_dir: Path = Field(default_factory=lambda: user_cache_path("label-studio-ivos"))
    frame_disk_mib: int = Field(4096, ge=16, description="Bound of the frame cache on disk.")
    frame_ram_mib: int = Field(512, ge=16, description="Bound of decoded frames in memory, all videos together.")
    embedding_ram_mib: int = Field(1024, ge=16, description="Bound of image embeddings in memory, all videos together.")
    max_sessions: int = Field(64, ge=1, description="Sessions kept; the least recently used one goes first.")

    response_budget_s: float = Field(80.0, gt=0, lt=100, description="Label Studio gives up after 100 s.")
    fetch_timeout_s: float = Field(20.0, gt=0)
    fetch_retries: int = Field(3, ge=0, le=10)
    fetch_max_mib: int = Field(64, ge=1, description="Largest single frame file accepted.")

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_variables(cls, values: dict[str, object]) -> dict[str, object]:
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return values

    @model_validator(mode="after")
    def _require_credentials(self) -> Settings:
        if not self.auth_disabled and not (self.basic_auth_user and self.basic_auth_pass.get_secret_value()):
            raise ValueError(
                "set IVOS_BASIC_AUTH_USER and IVOS_BASIC_AUTH_PASS, or IVOS_AUTH_DISABLED=true to serve without a password"
            )
        return self


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings of this process, parsed on first use."""
    return Settings()
