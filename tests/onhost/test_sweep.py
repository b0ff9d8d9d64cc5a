"""Forgotten viewers are ended by the server that started them, and by no other."""

from __future__ import annotations

import os
import subprocess
import time

from tests.onhost.viewer_host import SESSION, ViewerHost, is_alive

OTHER = "fedcba9876543210"


def test_a_forgotten_viewer_is_ended_and_its_files_go(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    assert host.answer("sweep", server="laptop", known=[OTHER]) == {"ended": [SESSION], "removed": 1}
    assert not is_alive(viewer["pid"])
    assert not host.directory.exists()


def test_known_viewers_and_those_of_another_server_are_left_alone(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    assert host.answer("sweep", server="laptop", known=[SESSION]) == {"ended": [], "removed": 0}
    assert host.answer("sweep", server="jump-box", known=[]) == {"ended": [], "removed": 0}
    assert host.status(viewer)["alive"] is True
    host.stop(viewer)


def test_what_a_crashed_viewer_left_goes_at_once_if_ours_and_after_a_week_if_not(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")
    os.killpg(viewer["pid"], 9)
    assert host.answer("sweep", server="jump-box", known=[])["removed"] == 0
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(host.directory, (long_ago, long_ago))
    assert host.answer("sweep", server="jump-box", known=[]) == {"ended": [], "removed": 1}

    viewer = host.launch(server="laptop")
    os.killpg(viewer["pid"], 9)
    assert host.answer("sweep", server="laptop", known=[]) == {"ended": [], "removed": 1}
    assert not host.directory.exists()


def test_a_record_of_a_reused_pid_ends_nobody(host: ViewerHost, bystander: subprocess.Popen[bytes]) -> None:
    viewer = host.launch(server="laptop")
    os.killpg(viewer["pid"], 9)
    record = host.directory / "viewer.json"
    record.write_text(record.read_text().replace(str(viewer["pid"]), str(bystander.pid)))
    assert host.answer("sweep", server="laptop", known=[]) == {"ended": [], "removed": 1}
    assert bystander.poll() is None
