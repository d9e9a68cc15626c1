"""All settings of the backend, read once from the ``IVOS_*`` environment variables.

The descriptions of the fields are the table in docs/admin.md: `make docs` copies them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.embeddings.disk import LEAST_MIB
from pipeline.methods.choice import MethodChoice
from pipeline.settings import ModelSettings


class ClientSettings(ModelSettings):
    """What a command needs to call Label Studio."""

    label_studio_url: str = Field(
        default="",
        description="Address at which the backend reaches Label Studio. Empty: the address that Label Studio sends.",
    )
    label_studio_token: SecretStr = Field(
        default=SecretStr(""),
        description="Legacy or personal access token for Label Studio. Empty: the token that Label Studio sends.",
    )


class Settings(ClientSettings):
    """Settings of `ivos serve` and of the WSGI module. Field ``port`` is read from ``IVOS_PORT``, and so on.

    Raises:
        pydantic.ValidationError: a value is out of range, a name is unknown, or neither credentials nor
            ``IVOS_AUTH_DISABLED=true`` are given.
    """

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9090, ge=1, le=65535, description="Port to listen on.")
    threads: int = Field(
        default=8, ge=2, description="Request threads, at least 2, so that `/health` answers during a round."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`."
    )

    basic_auth_user: str = Field(
        default="", description="User name that Label Studio must send. Required, unless `IVOS_AUTH_DISABLED` is set."
    )
    basic_auth_pass: SecretStr = Field(
        default=SecretStr(""),
        description="Password that Label Studio must send. Required, unless `IVOS_AUTH_DISABLED` is set.",
    )
    auth_disabled: bool = Field(default=False, description="Serve without a password. Only for a closed network.")

    method: str = Field(default="i_pt", description="How masks are propagated: one of the [methods](methods.md).")
    method_options: dict[str, Any] = Field(
        default_factory=dict,
        description='The method\'s own settings as JSON, for instance `{"refinement_iterations": 1}`.',
    )
    segmenter: str = Field(
        default="auto",
        description="The [segmenter](models.md). `auto`: the best one whose weights are on this machine.",
    )
    checkpoint: Path | None = Field(
        default=None,
        description="The segmenter's weights file. Empty: the file that `ivos models pull` stored.",
    )
    point_tracker: str = Field(default="lucas_kanade", description="What tracks points: see [models](models.md).")
    box_tracker: str = Field(
        default="auto",
        description="What tracks boxes: see [models](models.md). `auto`: the best one whose weights are here.",
    )
    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.")

    frame_disk_mib: int = Field(default=4096, ge=16, description="Limit of the frame cache on disk, in MiB.")
    frame_ram_mib: int = Field(
        default=512, ge=16, description="Limit of decoded frames in memory, all videos together, in MiB."
    )
    embedding_ram_mib: int = Field(
        default=1024, ge=16, description="Limit of image embeddings in memory, all videos together, in MiB."
    )
    embedding_disk_mib: int = Field(
        default=4096,
        ge=0,
        description="Limit of image embeddings on disk, in MiB, 64 or more. They speed up restarts; 0 stores none.",
    )
    session_ram_mib: int = Field(
        default=2048, ge=16, description="Limit of masks and frames that sessions hold in memory, in MiB."
    )
    max_sessions: int = Field(
        default=64,
        ge=1,
        description="How many annotations are kept in memory. The least recently used idle one is dropped first.",
    )

    store_url: SecretStr = Field(
        default=SecretStr(""),
        description="Where sessions are stored: `postgresql://user:password@host/database` or "
        "`sqlite:////folder/file`. Empty: `sessions.sqlite` in the cache folder.",
    )
    store_limit_mib: int = Field(
        default=2048,
        ge=16,
        description="Limit of stored sessions, in MiB. The least recently used ones are deleted first.",
    )

    parallel_rounds: int = Field(
        default=2, ge=1, description="How many rounds are computed at the same time. Further rounds wait."
    )
    response_budget_s: float = Field(
        default=80.0,
        gt=0,
        lt=100,
        description="Longest time until an answer, in seconds. It must be below the 100 s that Label Studio waits.",
    )
    fetch_timeout_s: float = Field(default=20.0, gt=0, description="Time limit of one request for a frame, in seconds.")
    fetch_retries: int = Field(
        default=3, ge=0, le=10, description="How often a request is repeated after a connection error, 429 or 5xx."
    )
    fetch_max_mib: int = Field(default=64, ge=1, description="Largest frame file that is accepted, in MiB.")

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
            raise ValueError(f"expected 0 (none), or {LEAST_MIB} MiB or more: less than that holds hardly any frame")
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
