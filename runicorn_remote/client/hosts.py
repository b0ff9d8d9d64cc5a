"""What is on a host: its Python environments, its storage, its files. All need a live connection."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from runicorn_remote.client.api_client import SLOW, ApiClient
from runicorn_remote.client.shapes import (
    Config,
    Directory,
    Environment,
    EnvironmentVersions,
    PathExists,
    Resources,
    StorageCandidates,
)


class HostMethods(ApiClient):
    """Each raises `ConnectionNotFound` without a live connection, `LinkLost` if it breaks."""

    def list_conda_envs(self, *, connection_id: str) -> list[Environment]:
        """All Python environments of the account, not only conda's; the default first.

        `[{"name", "type", "python_version", "path", "is_default"}]`; `name` is what `conda_env` takes.
        """
        return cast("list[Environment]", self._ask("/conda-envs", connection_id)["envs"])

    def env_configs(self, *, connection_id: str) -> dict[str, EnvironmentVersions]:
        """The versions in every environment: `{name: {"pythonVersion", "runicornVersion"}}`.

        `runicornVersion` is None where it is not installed.
        """
        return cast("dict[str, EnvironmentVersions]", self._ask("/env-configs", connection_id)["configs"])

    def config(self, *, connection_id: str, conda_env: str = "system") -> Config:
        """What starting a viewer with one environment needs.

        `{"condaEnv", "pythonVersion", "runicornVersion", "defaultStorageRoot", "storageRootExists",
        "suggestedRemotePort", "connectionId", "homeDirectory"}`. Raises `EnvironmentNotFound`.
        """
        return cast("Config", self._ask("/config", connection_id, conda_env=conda_env))

    # The name scripts know from Runicorn's own examples.
    get_remote_config = config

    def storage_candidates(
        self,
        *,
        connection_id: str,
        conda_env: str = "system",
        scan_root: str | None = None,
        max_depth: int = 3,
    ) -> StorageCandidates:
        """Directories that look like storage, the best first; searched below `scan_root`, else the home.

        `{"scan_root", "max_depth", "candidates": [{"path", "run_count", "has_archive", "has_index",
        "score"}]}`
        """
        answer = self._ask(
            "/storage-candidates",
            connection_id,
            conda_env=conda_env,
            scan_root=scan_root,
            max_depth=max_depth,
        )
        return cast("StorageCandidates", answer)

    def list_directory(self, *, connection_id: str, path: str = "~") -> Directory:
        """`{"path", "items": [{"name", "is_dir", "size", "mtime"}]}`: directories first, then by name.

        Raises `NotFound`, `Forbidden`, `BadRequest` (not a directory).
        """
        return cast("Directory", self._ask("/fs/list", connection_id, path=path))

    def path_exists(self, *, connection_id: str, path: str) -> PathExists:
        """`{"path", "exists", "is_dir"}`"""
        return cast("PathExists", self._ask("/fs/exists", connection_id, path=path))

    def resources(self, *, connection_id: str, storage_root: str | None = None) -> Resources:
        """How busy the host is: load, memory, the disk of the storage root, GPUs.

        None is what it does not tell. `storage_root`: by default where new runs go. `gpus` is empty without
        NVIDIA's tool, None if that fails, and `gpuError` says why.
        """
        route = f"/hosts/{quote(connection_id, safe='')}/resources"
        return cast("Resources", self._get(route, {"storage_root": storage_root}, wait=SLOW))

    def _ask(self, route: str, connection_id: str, /, **query: Any) -> Any:
        # requests leaves out what is None.
        return self._get(route, {"connection_id": connection_id, **query}, wait=SLOW)
