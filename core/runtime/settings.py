"""Settings that every process shares, read from the environment.

Each service adds its own in a subclass. Names are the environment variables' names in lower case.
"""

from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.runtime.redis_address import parse_address

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


MetricsPort = Annotated[int, Field(description="Port of /metrics; 0 takes a free one.", ge=0, le=65535)]


class Settings(BaseSettings):
    """What every process of a deployment has to agree on."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=False,
        hide_input_in_errors=True,  # what was given may be a password
    )

    redis_url: Annotated[
        SecretStr | None,
        Field(
            description="Redis to use: redis://, redis+cluster://, redis+sentinel://, each with rediss for TLS; "
            "docs/guides/redis.md has the forms. Wins over the Upstash pair. With neither, services use "
            f"{DEFAULT_REDIS_URL}, and ./run up starts one."
        ),
    ] = None
    upstash_redis_rest_url: Annotated[
        str | None,
        Field(description="Upstash: the database's REST address; its host also speaks Redis over TLS."),
    ] = None
    upstash_redis_rest_token: Annotated[
        SecretStr | None, Field(description="Upstash: the REST token, which is the password too.")
    ] = None
    key_prefix: Annotated[
        str,
        Field(description="First part of every Redis key.", min_length=1, max_length=50, pattern=r"^[^{}:\s]+$"),
    ] = "pip-ai"
    stream_max_entries: Annotated[
        int,
        Field(description="Entries kept in each source stream, once every view has them, and in each feed.", ge=1),
    ] = 1000
    stream_block_time: Annotated[
        int,
        Field(
            description="Milliseconds after which a read that waits for events begins anew; events are seen at once.",
            ge=10,
            le=60_000,
        ),
    ] = 1000
    stream_partitions: Annotated[
        int,
        Field(
            description="Partitions of each source stream, which so many projectors can share; the same for every "
            "process. Only pipai-admin repartition changes it later.",
            ge=1,
            le=256,
        ),
    ] = 1
    view_ttl: Annotated[int, Field(description="Seconds a view and its feed live after their last event.", ge=60)] = (
        7 * 24 * 3600
    )
    debug: Annotated[bool, Field(description="Log each event at every step of its way.")] = False
    log_format: Annotated[
        Literal["json", "text"], Field(description="Log lines as JSON objects, or as text for people.")
    ] = "json"
    metrics_host: Annotated[str, Field(description="Address /metrics listens on.")] = "127.0.0.1"
    temporal_address: Annotated[
        str | None,
        Field(
            description="host:port of Temporal; without it ./run up starts one. TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, "
            "TEMPORAL_TLS* and TEMPORAL_PROFILE are read as Temporal's own SDK reads them."
        ),
    ] = None
    temporal_task_queue: Annotated[
        str, Field(description="Task queue of the document analysis worker.", min_length=1)
    ] = "pipai-documents"

    @field_validator("redis_url")
    @classmethod
    def _can_be_connected_to(cls, redis_url: SecretStr | None) -> SecretStr | None:
        if redis_url is not None:
            parse_address(redis_url.get_secret_value())
        return redis_url

    @model_validator(mode="after")
    def _upstash_pair(self) -> Self:
        if self.redis_url is None and self.upstash_redis_rest_url and not self.upstash_redis_rest_token:
            raise ValueError("UPSTASH_REDIS_REST_URL is set but UPSTASH_REDIS_REST_TOKEN is not")
        return self

    def redis_address(self) -> str:
        """URL of the Redis to use, password included: never log it, see `core.runtime.redis.safe_address`."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.upstash_redis_rest_url and self.upstash_redis_rest_token:
            host = urlsplit(self.upstash_redis_rest_url).hostname or self.upstash_redis_rest_url
            token = quote(self.upstash_redis_rest_token.get_secret_value(), safe="")
            return f"rediss://default:{token}@{host}:6379"
        return DEFAULT_REDIS_URL


class HttpSettings(Settings):
    """What services that speak HTTP have besides."""

    cors_origins: Annotated[
        str, Field(description="Origins whose pages may call the API, separated by commas; `*` for any.")
    ] = ""

    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_origins``."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def what_is_wrong(error: ValidationError) -> str:
    """The variables that cannot be used, by their names in the environment, in one line."""
    return "; ".join(_told(detail["loc"], detail["msg"]) for detail in error.errors())


def _told(where: tuple[int | str, ...], what: str) -> str:
    name = ".".join(str(part) for part in where).upper()
    return f"{name}: {what.removeprefix('Value error, ')}" if name else what.removeprefix("Value error, ")
