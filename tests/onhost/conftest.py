"""An account to start viewers in, and a process that is none of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.onhost.viewer_host import ViewerHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ViewerHost]:
    host = ViewerHost(tmp_path)
    yield host
    assert not host.end_all(), "processes were left behind"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, as a viewer does."""
    waits = "import signal\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-c", waits], start_new_session=True) as process:
        yield process
        process.kill()
