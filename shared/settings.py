"""The settings of Safekeep: read once from the environment, prefix `SAFEKEEP_`, and validated at start.

Every other module is handed a `Settings` and never looks at the environment itself.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.environment import PREFIX
from shared.errors import SettingsError

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """What an operator can set. Durations are in seconds; `safekeep settings` prints each with its description."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    environment: Literal["production", "development"] = Field(
        "production", description="development allows tokens signed with SAFEKEEP_TOKEN_KEY"
    )
    allow_chaos: bool = Field(
        False, description="marks this installation as one that `safekeep chaos` may break; never set it in production"
    )
    database_url: SecretStr = Field(description="PostgreSQL 14 or newer, postgresql://…")
    queue_url: SecretStr = Field(description="Redis 6.2 or newer, redis://… or rediss://…, or RabbitMQ, amqp://…")
    queue_prefix: str = Field(
        "safekeep:", pattern=r"^[A-Za-z0-9_.:-]+$", description="stands before every key or queue name of ours"
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="seal broker passwords: base64 of 32 bytes each, comma-separated; the first seals, all open"
    )

    external_url: str = Field(
        "http://127.0.0.1:8080", description="how clients reach the API; Location is built from it"
    )
    listen_host: str = Field("127.0.0.1", description="address that the API listens on")
    listen_port: int = Field(8080, ge=0, le=65535, description="port that the API listens on")
    request_head_timeout_s: Seconds = Field(10, description="how long a client may take to send a request's head")
    request_body_timeout_s: Seconds = Field(30, description="how long a client may take to send a request's body")
    token_key: SecretStr | None = Field(None, description="development only: signs and verifies tokens (HS256)")
    token_audience: str = Field("cloud_controller", description="must be among a token's aud")
    uaa_url: str | None = Field(None, description="UAA, whose RSA keys verify tokens and whose issuer they must name")
    login_url: str | None = Field(None, description="where clients log in; UAA unless set")
    token_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="verify tokens (HMAC) instead of UAA's RSA keys: at least 32 characters each, 64 for HS512, "
        "comma-separated; every one is tried",
    )
    token_issuer: str | None = Field(None, description="must be a token's iss; UAA is asked for it unless set")
    uaa_timeout_s: Seconds = Field(5, description="longest that UAA may take to answer")
    uaa_keys_age_s: Seconds = Field(30, description="age from which on UAA is asked for its keys again")
    uaa_pause_s: Seconds = Field(
        5, description="least pause before UAA is asked again, whatever tokens come and however it answered"
    )
    rate_limit_per_user: int | None = Field(
        None,
        ge=1,
        description="most requests of one user in a window; no limit unless set, Cloud Foundry suggests 2000",
    )
    rate_limit_per_address: int | None = Field(
        None, ge=1, description="most requests without a token from one address; no limit unless set, such as 100"
    )
    rate_limit_window_s: int = Field(3600, ge=1, description="length of such a window")
    rate_limit_url: SecretStr | None = Field(None, description="Redis that counts them; the queue's unless set")
    trusted_proxies: int = Field(
        0, ge=0, description="how many proxies before the API append to X-Forwarded-For; 0: it is not looked at"
    )
    directory_staleness_s: float = Field(
        1.0, ge=0, description="how long the API may go on with what it read of instances and roles"
    )

    api_pool_size: int = Field(16, ge=1, description="database connections of one API process")
    worker_pool_size: int = Field(8, ge=2, description="database connections of one worker process")
    database_timeout_s: Seconds = Field(10, description="longest wait for a connection, and for one statement")

    job_watch_interval_s: Seconds = Field(
        0.05, description="pause between two looks at the jobs whose changes somebody waits for; one look is for all"
    )
    job_watchers_max: int = Field(
        10_000,
        ge=0,
        description="most requests that one API process holds until a job changes, streams of events included",
    )
    job_wait_max_s: int = Field(
        55, ge=0, description="longest that a reader of a job may wait for its change; shorter than proxies wait for us"
    )
    job_stream_s: Seconds = Field(3600, description="longest stream of a job's events; its reader connects again")
    job_ping_s: Seconds = Field(15, description="pause after which a stream without events shows that it lives")

    dispatch_interval_s: Seconds = Field(0.25, description="pause between two looks for due jobs")
    dispatch_batch: int = Field(500, ge=1, description="most jobs hinted in one look")
    hint_batch: int = Field(50, ge=1, description="most jobs of one broker in one hint")
    queue_length_max: int = Field(
        200,
        ge=1,
        description="hints in a queue from which on no more are sent; jobs wait in the database",
    )
    hint_interval_s: Seconds = Field(30, description="first pause before a due job is hinted again; doubles each time")
    hint_interval_max_s: Seconds = Field(600, description="longest pause before a due job is hinted again")
    lease_s: Seconds = Field(60, description="how long a claimed step may take before another worker may take it")
    calls_in_flight: int = Field(200, ge=1, description="most calls to brokers that one worker process makes at once")
    worker_grace_s: Seconds = Field(25, description="after SIGTERM, how long steps in hand may take to finish")

    worker_deaf_s: Seconds = Field(
        120, description="how long a worker may receive nothing, though the queue takes messages, before it ends itself"
    )

    broker_calls_in_flight: int = Field(
        100, ge=1, description="most calls to one broker at once, over all workers; a broker may have its own limit"
    )
    broker_calls_per_minute: int | None = Field(
        None, ge=1, description="most steps a minute that call one broker; a broker may have its own limit"
    )
    breaker_failures: int = Field(
        5, ge=1, description="calls in a row without an answer, or with 5xx, after which a broker is left alone"
    )
    breaker_pause_s: Seconds = Field(
        10, description="how long it is left alone before one call tries again; doubles each time"
    )
    breaker_pause_max_s: Seconds = Field(300, description="longest that it is left alone")
    lost_steps_max: int = Field(
        10, ge=1, description="workers in a row that may die over a job, or lose it, before it fails"
    )
    broker_timeout_s: Seconds = Field(20, description="longest one call to a service broker may take in all")
    start_attempts: int = Field(5, ge=1, description="most times that a start is sent before the job fails")
    start_backoff_s: Seconds = Field(
        5, description="pause after the first failed start; doubles each time, with jitter"
    )
    busy_patience_s: Seconds = Field(
        600, description="how long a broker may answer that it is busy before the job fails"
    )
    clean_up_attempts: int = Field(
        20, ge=1, description="most times that a removal of what a failed operation left is sent before it is given up"
    )
    clean_up_backoff_s: Seconds = Field(10, description="pause after the first failed removal; doubles each time")
    clean_up_backoff_max_s: Seconds = Field(21600, description="longest pause between removals")
    clean_up_deadline_s: Seconds = Field(259200, description="longest that a removal is tried")
    poll_interval_s: Seconds = Field(1, description="pause before the first poll; grows with each poll")
    poll_interval_max_s: Seconds = Field(60, description="longest pause between polls of our own choice")
    retry_after_max_s: Seconds = Field(3600, description="longest Retry-After of a broker that is honoured")
    operation_deadline_s: Seconds = Field(
        86400, description="longest a broker's operation may take; a plan may say less"
    )

    retention_s: Seconds = Field(7776000, description="how long finished jobs are kept; 90 days unless set")
    audit_retention_s: Seconds = Field(2678400, description="how long audit events are kept; 31 days unless set")
    prune_interval_s: Seconds = Field(3600, description="pause between two looks for what is to be deleted")

    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON lines")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severity that is logged")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        if _scheme(value) not in {"postgresql", "postgres"}:
            raise ValueError("must start with postgresql://")
        try:
            conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            # The driver quotes the whole text, and with it the password.
            raise ValueError("is not a valid connection URL of PostgreSQL") from None
        return value

    @field_validator("queue_url")
    @classmethod
    def _is_queue(cls, value: SecretStr) -> SecretStr:
        if _scheme(value) not in {"redis", "rediss", "amqp", "amqps"}:
            raise ValueError("must start with redis://, rediss://, amqp:// or amqps://")
        return value

    @field_validator("rate_limit_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _scheme(value) not in {"redis", "rediss"}:
            raise ValueError("must start with redis:// or rediss://")
        return value

    @field_validator("external_url")
    @classmethod
    def _is_http_base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be an absolute http:// or https:// URL without query")
        return value.rstrip("/")

    @field_validator("uaa_url", "login_url")
    @classmethod
    def _is_public_base(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "@" in urlsplit(value).netloc:
            raise ValueError("must hold no user and password, since everybody is told it")
        return cls._is_http_base(value)

    @field_validator("secret_keys", "token_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.lease_s <= 2 * self.broker_timeout_s:
            # A step makes two calls at most; a lease that ends before they do would put a second worker on it.
            raise ValueError("SAFEKEEP_LEASE_S must be more than twice SAFEKEEP_BROKER_TIMEOUT_S")
        if self.poll_interval_max_s < self.poll_interval_s:
            raise ValueError("SAFEKEEP_POLL_INTERVAL_MAX_S must not be shorter than SAFEKEEP_POLL_INTERVAL_S")
        if self.has_rate_limits and self.rate_limit_url is None and _scheme(self.queue_url) not in {"redis", "rediss"}:
            raise ValueError("SAFEKEEP_RATE_LIMIT_URL must name a Redis, since the queue is none")
        if self.token_secrets and self.uaa_url is None and self.token_issuer is None:
            raise ValueError("SAFEKEEP_TOKEN_SECRETS needs SAFEKEEP_TOKEN_ISSUER, or SAFEKEEP_UAA_URL to ask")
        return self

    @property
    def has_rate_limits(self) -> bool:
        """Whether any requests are counted."""
        return self.rate_limit_per_user is not None or self.rate_limit_per_address is not None


def _scheme(url: SecretStr) -> str:
    return url.get_secret_value().partition("://")[0]


def load_settings() -> Settings:
    """The settings from the environment.

    Raises SettingsError with one line per setting that is missing or wrong, never with a value: it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else ""
            text = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {text}" if name else text)
        raise SettingsError("\n".join(lines)) from None
