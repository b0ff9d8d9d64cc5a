"""The way of a user through the API, from an unknown host to a page in the browser and back."""

from __future__ import annotations

import http.client
import json
from typing import Any

from runicorn_remote.demo.report import DemoFailed, Report
from runicorn_remote.demo.server_process import Api, fetch
from runicorn_remote.demo.ssh_host import EmbeddedHost

_SHOWN_ENVIRONMENTS = 3


class Journey:
    """The steps in order; each prints its line. `session` is the viewer's while there is one."""

    def __init__(self, api: Api, host: EmbeddedHost, environment: str, report: Report) -> None:
        self._api = api
        self._report = report
        self._environment = environment
        self._where = {"host": host.host, "port": host.port, "username": host.username}
        self._login = {**self._where, "password": host.password, "use_agent": False}
        self._fingerprint = host.fingerprint
        self._connected = False
        self.session: dict[str, Any] | None = None

    def there(self) -> None:
        """From the first connect to a running viewer. Raises `DemoFailed`."""
        self._accept_key(self._first_connect())
        connection_id = self._connect()
        self._list_environments(connection_id)
        root = self._read_config(connection_id)
        self.session = self._start_viewer(root)
        self._read_status(self.session["sessionId"])

    def look(self, runs: int) -> None:
        """What a browser sees: the viewer's health, its page and `runs` runs, through the tunnel."""
        assert self.session is not None
        url = self.session["url"]
        with self._report.step("GET  viewer /api/health") as step:
            health = json.loads(_page(f"{url}/api/health"))
            _expect(health.get("status") == "ok", f"the viewer is not well: {health}")
            step.detail = f"runicorn {health.get('version')}"
        with self._report.step("GET  viewer /") as step:
            page = _page(f"{url}/")
            _expect(b"<html" in page.lower() and b"runicorn" in page.lower(), "this is not the viewer's page")
            step.detail = f"{len(page)} bytes of HTML"
        with self._report.step("GET  viewer /api/runs") as step:
            found = json.loads(_page(f"{url}/api/runs"))
            _expect(len(found) == runs, f"the viewer shows {len(found)} runs, not {runs}")
            step.detail = ", ".join(sorted(str(run.get("status")) for run in found))
        with self._report.step("GET  /viewer/sessions") as step:
            ids = [session["sessionId"] for session in self._sessions()]
            _expect(ids == [self.session["sessionId"]], f"other sessions than ours: {ids}")
            step.detail = "ours"

    def back(self) -> None:
        """Stop the viewer and disconnect, as far as they are there. Raises `DemoFailed`."""
        if self.session is not None:
            session_id, self.session = self.session["sessionId"], None
            with self._report.step("POST /viewer/stop") as step:
                _ok(self._api.post("/viewer/stop", {"session_id": session_id}))
                _expect(not self._sessions(), "the session is still listed")
                step.detail = f"session {session_id} stopped"
        if self._connected:
            self._connected = False
            with self._report.step("POST /disconnect") as step:
                step.detail = _ok(self._api.post("/disconnect", self._where))["message"]

    # --- the steps

    def _first_connect(self) -> dict[str, Any]:
        with self._report.step("POST /connect") as step:
            status, answer = self._api.post("/connect", self._login)
            _expect(status == 409, f"expected 409 for an unknown host key, got {status}: {answer}")
            key: dict[str, Any] = answer["detail"]["host_key"]
            step.detail = f"409, host key {key['reason']}: {key['key_type']} {key['fingerprint_sha256']}"
            _expect(key["fingerprint_sha256"] == self._fingerprint, "this is not the key of our host")
        return key

    def _accept_key(self, key: dict[str, Any]) -> None:
        names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
        with self._report.step("POST /known-hosts/accept") as step:
            _ok(self._api.post("/known-hosts/accept", {name: key[name] for name in names}))
            step.detail = "the key is the one the embedded host says it has"

    def _connect(self) -> str:
        with self._report.step("POST /connect") as step:
            answer = _ok(self._api.post("/connect", self._login))
            self._connected = True
            step.detail = answer["connection_id"]
        return str(answer["connection_id"])

    def _list_environments(self, connection_id: str) -> None:
        with self._report.step("GET  /conda-envs") as step:
            found = _ok(self._api.get("/conda-envs", connection_id=connection_id))["envs"]
            shown = [f"{one['name']} ({one['python_version']})" for one in found[:_SHOWN_ENVIRONMENTS]]
            more = [f"{len(found) - len(shown)} more"] if len(found) > len(shown) else []
            step.detail = ", ".join(shown + more)
            names = [one["name"] for one in found]
            _expect(self._environment in names, f"{self._environment} is not among the environments: {names}")

    def _read_config(self, connection_id: str) -> str:
        with self._report.step("GET  /config") as step:
            config = _ok(self._api.get("/config", connection_id=connection_id, conda_env=self._environment))
            _expect(
                bool(config["runicornVersion"]), f"no runicorn in {self._environment}: pip install runicorn"
            )
            _expect(config["storageRootExists"], f"no storage at {config['defaultStorageRoot']}")
            step.detail = f"runicorn {config['runicornVersion']}, {config['defaultStorageRoot']}"
        return str(config["defaultStorageRoot"])

    def _start_viewer(self, root: str) -> dict[str, Any]:
        request = {**self._login, "remote_root": root, "conda_env": self._environment}
        with self._report.step("POST /viewer/start") as step:
            answer = _ok(self._api.post("/viewer/start", request))
            session: dict[str, Any] = answer["session"]
            step.detail = answer["message"]
        return session

    def _read_status(self, session_id: str) -> None:
        with self._report.step("GET  /viewer/status/ID") as step:
            session = _ok(self._api.get(f"/viewer/status/{session_id}"))
            _expect(session["status"] == "running", f"the viewer is {session['status']}: {session['error']}")
            step.detail = f"{session['status']}, process {session['remotePid']} on the host"

    def _sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _ok(self._api.get("/viewer/sessions"))["sessions"]
        return found


def _page(url: str) -> bytes:
    try:
        status, body = fetch(url, timeout=30)
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"{url}: {error}") from error
    _expect(status == 200, f"{url} answered {status}")
    return body


def _ok(answer: tuple[int, Any]) -> dict[str, Any]:
    status, body = answer
    _expect(status == 200 and isinstance(body, dict), f"the server answered {status}: {body}")
    _expect(body.get("ok", True) is not False, f"the server answered {body}")
    return dict(body)


def _expect(truth: bool, message: str) -> None:
    if not truth:
        raise DemoFailed(message)
