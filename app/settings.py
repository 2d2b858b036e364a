"""Every setting of the service, read once at the door. Prefix STROP_, for example STROP_DATABASE_URL."""

from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1 << 30


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="STROP_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("strop"), description="Folder of all local state.")
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite in the home folder.")
    auto_migrate: bool = Field(False, description="Upgrade the schema at start; the embedded SQLite always is.")
    broker_url: str = Field("redis://127.0.0.1:6379/0", description="Valkey or Redis, also redis+socket:///path.")
    storage_url: str = Field("", description="s3://bucket/prefix, or empty for the home folder.")
    api_keys: str = Field("", description="Comma-separated keys; empty means that no key is asked for.")
    host: str = Field("127.0.0.1", description="Address the API binds to.")
    port: int = Field(8000, description="Port the API binds to.")
    max_upload_bytes: int = Field(8 * GIB, description="Largest upload.")
    min_free_bytes: int = Field(GIB // 2, description="Disk space that uploads and jobs must leave free.")
    job_memory_bytes: int = Field(12 * GIB, description="Memory of one job, all its processes together.")
    job_max_seconds: int = Field(6 * 3600, description="Wall time of one attempt, whatever its budget says.")
    lease_seconds: float = Field(30, description="A worker unheard of for so long has lost its job.")
    heartbeat_seconds: float = Field(5, description="How often a worker renews its lease.")
    reaper_seconds: float = Field(10, description="How often maintenance looks for lost jobs and unsent hints.")
    cancel_grace_seconds: float = Field(10, description="From SIGTERM to SIGKILL when a job is canceled.")
    storage_patience_seconds: float = Field(600, description="How long a result waits for a storage that is away.")
    retention_days: float = Field(30, description="How long finished jobs and their files are kept.")
    worker_slots: int = Field(2, ge=1, description="Jobs one worker process supervises at a time.")
    sandbox_min_level: str = Field("rlimits", description="none, rlimits, landlock or landlock+seccomp.")
    failpoints: str = Field("", description="Faults to inject, for the fault tests only.")
    engine_command: str = Field("", description="Program run instead of the engine, for the fault tests only.")

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'strop.sqlite3'}"
