"""The broker's settings: read once from the environment, prefix `POSTGRES_BROKER_`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class BrokerSettings(BaseSettings):
    """What the broker needs to know."""

    model_config = SettingsConfigDict(env_prefix="POSTGRES_BROKER_", frozen=True, env_ignore_empty=True)

    database_url: SecretStr = Field(description="the server for the instances; its role needs CREATEDB and CREATEROLE")
    data_directory: Path = Field(description="where the broker keeps its records and the dumps")
    username: str = Field(description="what platforms sign on with")
    password: SecretStr = Field(description="what platforms sign on with")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(9001, ge=1, le=65535, description="port to listen on")
    pg_bin: Path | None = Field(None, description="directory of pg_dump and pg_restore; by default those of the PATH")
    concurrency: int = Field(2, ge=1, description="most dumps and restores that run at once")
