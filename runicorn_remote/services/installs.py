"""All installations: begun, followed, cancelled. What one does is in `installer`."""

from __future__ import annotations

import logging
import threading

from packaging.version import InvalidVersion, Version

from runicorn_remote.clock import Clock
from runicorn_remote.errors import Busy, Conflict, InstallFailed, InstallNotFound, InvalidValue, RemoteError
from runicorn_remote.services.connections import Connections
from runicorn_remote.services.environments import Environments
from runicorn_remote.services.install_job import RUNNING, InstallJob
from runicorn_remote.services.installer import Installer
from runicorn_remote.services.own_version import runicorn_version
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.pool import ConnectionPool

logger = logging.getLogger(__name__)

# At a time: each has a thread, and may fill a temporary directory with some 30 MB.
_AT_A_TIME = 4
# Finished ones that can still be asked about.
_KEPT = 50


class Installs:
    """Owns the threads `install-<id>`. May be called from any thread."""

    def __init__(
        self,
        connections: Connections,
        pool: ConnectionPool,
        environments: Environments,
        clock: Clock,
        *,
        timeout: float,
        keep_for: float,
    ) -> None:
        """`timeout` of one installation and `keep_for` after its end, in seconds."""
        self._connections = connections
        self._pool = pool
        self._environments = environments
        self._clock = clock
        self._timeout = timeout
        self._keep_for = keep_for
        self._lock = threading.Lock()
        self._jobs: dict[str, InstallJob] = {}
        self._threads = ThreadGroup(clock)
        self._closed = False

    def begin(self, connection_id: str, environment: str | None, version: str | None) -> InstallJob:
        """Start an installation over the user's connection; it goes on when that is let go of.

        `environment` as /conda-envs names it, None for a private one; `version` by default our own.
        Raises `ConnectionNotFound`, `InvalidValue` (the version), `Conflict` (INSTALL_IN_PROGRESS), `Busy`.
        """
        wanted = _checked_version(version or runicorn_version())
        host = self._connections.get(connection_id)
        job = InstallJob(host.target, environment, wanted, self._clock)
        with self._lock:
            self._prune()
            running = [each for each in self._jobs.values() if each.state == RUNNING]
            for each in running:
                if (each.target, each.environment) == (job.target, job.environment):
                    raise Conflict(
                        "Runicorn is being installed there already",
                        code="INSTALL_IN_PROGRESS",
                        hint=f"GET /api/remote/environments/install/{each.id} tells how far it is.",
                    )
            if self._closed or len(running) >= _AT_A_TIME:
                raise Busy("Too many installations at once", code="TOO_MANY_INSTALLS")
            self._jobs[job.id] = job
        try:
            self._pool.hold(host, job.id)
            if not self._threads.start(f"install-{job.id}", self._run, job, host):
                raise Busy("No thread can be started", code="TOO_MANY_INSTALLS")
        except BaseException:
            with self._lock:
                del self._jobs[job.id]
            self._pool.release(host, job.id)
            raise
        return job

    def get(self, install_id: str) -> InstallJob:
        """Raises `InstallNotFound`; a finished one is kept for a time."""
        with self._lock:
            job = self._jobs.get(install_id)
        if job is None:
            raise InstallNotFound(install_id if install_id.isprintable() and len(install_id) <= 100 else "?")
        return job

    def wait(self, job: InstallJob) -> InstallJob:
        """Until its end. Raises what it failed with."""
        if not job.over.wait(self._timeout + 30):
            raise InstallFailed("it did not end in time", code="INSTALL_TIMEOUT")
        if job.error is not None:
            raise job.error
        return job

    def cancel(self, install_id: str) -> InstallJob:
        """End it soon, with what it has begun on the host. Nothing happens to one that is over."""
        job = self.get(install_id)
        job.cancelled.set()
        return job

    def wake_followers(self) -> None:
        """Have everybody who waits for events look up. A signal handler may call it: no lock."""
        for job in list(self._jobs.values()):
            job.events.wake()

    def close(self, timeout: float) -> None:
        """Cancel all; wait up to `timeout` seconds for them together."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancelled.set()
        self._threads.join(timeout)

    def _run(self, job: InstallJob, host: RemoteHost) -> None:
        logger.info("Installation %s: runicorn %s on %s", job.id, job.version, job.target)
        try:
            result = Installer(host, job, self._timeout).run()
        except RemoteError as error:
            logger.warning("Installation %s on %s: %s: %s", job.id, job.target, error.code, error)
            job.fail(error)
        except Exception:
            logger.exception("Installation %s on %s failed unexpectedly", job.id, job.target)
            job.fail(InstallFailed("the server's log has the details", code="INTERNAL_ERROR"))
        else:
            self._environments.forget(host)
            logger.info("Installation %s on %s: done", job.id, job.target)
            job.succeed(result)
        finally:
            self._pool.release(host, job.id)

    def _prune(self) -> None:
        over = [job for job in self._jobs.values() if job.over.is_set()]
        for number, job in enumerate(reversed(over)):
            if number >= _KEPT or job.ended_for > self._keep_for:
                del self._jobs[job.id]


def _checked_version(version: str) -> str:
    """A version as PEP 440 has it, in its normal form: it becomes part of a command."""
    try:
        return str(Version(version[:100]))
    except InvalidVersion as error:
        raise InvalidValue(
            f"{version[:100]!a} is not a version",
            hint="One version, such as 0.7.2; ranges are not understood.",
        ) from error
