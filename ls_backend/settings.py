"""Every setting of the backend, read from ``IVOS_*`` environment variables once, in this one place."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.embeddings.disk import LEAST_MIB
from pipeline.methods import MethodChoice
from pipeline.settings import ModelSettings


class ClientSettings(ModelSettings):
    """What a command needs to talk to Label Studio."""

    label_studio_url: str = Field(default="", description="Empty: the address Label Studio sends in /setup.")
    label_studio_token: SecretStr = Field(
        default=SecretStr(""), description="Legacy or personal access token; empty: /setup's."
    )


class Settings(ClientSettings):
    """Settings of `ivos serve` and of the WSGI module. Field ``port`` is read from ``IVOS_PORT``, and so on.

    Raises:
        pydantic.ValidationError: a value is out of range, a name is unknown, or neither credentials nor
            ``IVOS_AUTH_DISABLED=true`` are given.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9090, ge=1, le=65535)
    threads: int = Field(
        default=8, ge=2, description="Request threads; at least two, so that /health answers during a round."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    basic_auth_user: str = ""
    basic_auth_pass: SecretStr = SecretStr("")
    auth_disabled: bool = Field(default=False, description="Serve without a password. Only for a closed network.")

    method: str = "i_pt"
    method_options: dict[str, Any] = Field(
        default_factory=dict, description='The method\'s own settings as JSON: {"refinement_iterations": 1}.'
    )
    segmenter: str = Field(default="auto", description="auto: the best one whose weights are on the machine.")
    checkpoint: Path | None = Field(
        default=None, description="The segmenter's weights, instead of its file in the model zoo."
    )
    point_tracker: str = "lucas_kanade"
    box_tracker: str = "opencv_template"
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")

    frame_disk_mib: int = Field(default=4096, ge=16, description="Bound of the frame cache on disk.")
    frame_ram_mib: int = Field(
        default=512, ge=16, description="Bound of decoded frames in memory, all videos together."
    )
    embedding_ram_mib: int = Field(
        default=1024, ge=16, description="Bound of image embeddings in memory, all videos together."
    )
    embedding_disk_mib: int = Field(
        default=4096, ge=0, description="Bound of image embeddings on disk, 64 or more; 0 keeps none there."
    )
    session_ram_mib: int = Field(default=2048, ge=16, description="Bound of masks and frames held by sessions.")
    max_sessions: int = Field(default=64, ge=1, description="Sessions kept; the least recently used one goes first.")

    store_url: SecretStr = Field(
        default=SecretStr(""),
        description="Where sessions outlive the process: postgresql://user:password@host/database, or "
        "sqlite:////folder/file; empty: a file below the cache.",
    )
    store_limit_mib: int = Field(default=2048, ge=16, description="Bound of stored sessions on disk.")

    parallel_rounds: int = Field(default=2, ge=1, description="Rounds computing at the same time; further ones wait.")
    response_budget_s: float = Field(default=80.0, gt=0, lt=100, description="Label Studio gives up after 100 s.")
    fetch_timeout_s: float = Field(default=20.0, gt=0)
    fetch_retries: int = Field(default=3, ge=0, le=10)
    fetch_max_mib: int = Field(default=64, ge=1, description="Largest single frame file accepted.")

    @property
    def method_choice(self) -> MethodChoice:
        """Method, parts and options."""
        return MethodChoice(
            self.method,
            self.segmenter,
            self.point_tracker,
            self.box_tracker,
            self.checkpoint,
            self.method_options,
        )

    @field_validator("embedding_disk_mib")
    @classmethod
    def _require_room(cls, limit_mib: int) -> int:
        if 0 < limit_mib < LEAST_MIB:
            raise ValueError(f"expected 0 (none), or {LEAST_MIB} MiB or more: what is smaller holds hardly any frame")
        return limit_mib

    @field_validator("store_url")
    @classmethod
    def _require_known_database(cls, url: SecretStr) -> SecretStr:
        known = ("postgresql://", "postgresql+pg8000://", "sqlite:////")
        if url.get_secret_value() and not url.get_secret_value().startswith(known):
            raise ValueError(
                "expected postgresql://user:password@host:port/database, sqlite:////folder/file, or nothing for a file "
                "below IVOS_CACHE_DIR"
            )
        return url

    @model_validator(mode="after")
    def _require_known_parts(self) -> Settings:
        self.method_choice.check()
        return self

    @model_validator(mode="after")
    def _require_credentials(self) -> Settings:
        if not self.auth_disabled and not (self.basic_auth_user and self.basic_auth_pass.get_secret_value()):
            raise ValueError(
                "set IVOS_BASIC_AUTH_USER and IVOS_BASIC_AUTH_PASS, "
                "or IVOS_AUTH_DISABLED=true to serve without a password"
            )
        return self


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings of this process, parsed on first use."""
    return Settings()
