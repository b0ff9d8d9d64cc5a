"""A server is told of its own viewers only; what dead ones left goes in time."""

from __future__ import annotations

import os
import time

from tests.onhost.viewer_host import SESSION, ViewerHost


def test_a_server_is_told_of_its_own_viewers(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    assert host.answer("sweep", server="laptop") == {
        "viewers": [
            {
                "session_id": SESSION,
                "pid": viewer["pid"],
                "start_time": viewer["start_time"],
                "port": viewer["port"],
                "directory": str(host.directory),
            }
        ],
        "removed": 0,
    }
    assert host.answer("sweep", server="jump-box") == {"viewers": [], "removed": 0}
    assert host.status(viewer)["alive"] is True
    host.stop(viewer)


def test_what_a_dead_viewer_left_goes_after_a_week(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    os.killpg(viewer["pid"], 9)
    assert host.answer("sweep", server="jump-box")["removed"] == 0
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(host.directory, (long_ago, long_ago))
    # Its own server is told, and ends it as it ends any.
    assert len(host.answer("sweep", server="laptop")["viewers"]) == 1
    assert host.answer("sweep", server="jump-box") == {"viewers": [], "removed": 1}
    assert not host.directory.exists()


def test_a_live_viewer_is_never_too_old(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(host.directory, (long_ago, long_ago))
    assert host.answer("sweep", server="jump-box")["removed"] == 0
    assert host.status(viewer)["alive"] is True
    host.stop(viewer)
