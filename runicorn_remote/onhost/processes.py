"""Which process is ours, and how to end it. Runs on the remote machine: Python >= 3.6, standard library.

A pid alone proves nothing: after a while the kernel hands it to somebody else. A process is therefore
always named by pid *and* start time, and nothing here signals a pid whose start time differs.
"""

import contextlib
import os
import re
import signal
import subprocess
import time

from runicorn_remote.onhost.common import Failure

_DEAD = "ZXx"
# Seconds from SIGTERM to SIGINT. A viewer that has nothing to wait for ends in a fraction of one.
_PATIENCE = 1.5


def checked_session_id(value: object) -> str:
    """`value` if it is a session id (8 to 32 hex digits): it becomes the name of a directory."""
    if not isinstance(value, str) or not is_session_id(value):
        raise Failure("INVALID_VALUE", "session_id: not 8 to 32 lower-case hexadecimal digits")
    return value


def is_session_id(text: str) -> bool:
    return re.match(r"[0-9a-f]{8,32}\Z", text) is not None


def start_time(pid: int) -> "str | None":
    """When the process started, as an opaque text to compare; None if there is none. A zombie has one."""
    seen = look_at_process(pid)
    return seen[1] if seen else None


def state(pid: int) -> str:
    """`running`, `stopped` (SIGSTOP, a debugger), `zombie` or `gone`."""
    seen = look_at_process(pid)
    if seen is None:
        return "gone"
    if seen[0] in _DEAD:
        return "zombie"
    return "stopped" if seen[0] in "Tt" else "running"


def is_ours(pid: int, started: "str | None") -> bool:
    """Whether the process that started then is still alive. A zombie is dead."""
    seen = look_at_process(pid)
    return seen is not None and seen[1] == started and seen[0] not in _DEAD


def signal_group(pid: int, number: int, started: "str | None") -> bool:
    """Signal the whole process group that `pid` leads; nothing at all if the start time differs."""
    if not started or start_time(pid) != started:
        return False
    try:
        # A process that leads no group of its own shares one with processes we know nothing about.
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def group_members(group: int) -> "list[tuple[int, str]]":
    """(pid, start time) of every process of the group that is alive."""
    found = []
    for pid, letter, process_group in _all_processes():
        if process_group == group and letter not in _DEAD:
            started = start_time(pid)
            if started:
                found.append((pid, started))
    return found


def end_group(pid: int, started: "str | None", timeout: float) -> "tuple[bool, bool]":
    """End a process group: SIGTERM, soon SIGINT too, after `timeout` seconds SIGKILL. Returns (gone, killed).

    A viewer in which somebody has opened live logs waits for these after a SIGTERM, for ever; a SIGINT
    on top makes it leave at once.

    `gone` is False only for processes that the kernel does not let go (a dead network disk).
    """
    # Children may outlive their leader, and then only their own start times tell that they are still ours.
    members = group_members(pid) if start_time(pid) == started else []
    signal_group(pid, signal.SIGTERM, started)
    signal_group(pid, signal.SIGCONT, started)  # A stopped process gets its SIGTERM only now.
    patience = min(timeout, _PATIENCE)
    if _wait_until_dead(pid, started, members, patience):
        return True, False
    if timeout > patience:
        signal_group(pid, signal.SIGINT, started)
        if _wait_until_dead(pid, started, members, timeout - patience):
            return True, False
    if start_time(pid) == started:
        members = group_members(pid) + members
    signal_group(pid, signal.SIGKILL, started)
    for member, member_started in members:
        if is_ours(member, member_started):
            _kill(member)
    return _wait_until_dead(pid, started, members, 3.0), True


def kill_orphans(group: int) -> None:
    """Kill what is left of a group whose leader, our child, has just been waited for.

    The kernel gives no pid out that is still the number of a group, so all that is in it is ours.
    """
    for member, _ in group_members(group):
        _kill(member)


def look_at_process(pid: object) -> "tuple[str, str] | None":
    """(state letter, start time) of a process, or None."""
    if not isinstance(pid, int) or pid < 1:
        return None
    if has_proc():
        fields = _stat_fields(pid)
        return (fields[0], _boot_id() + ":" + fields[19]) if fields else None
    said = _ps("-o", "state=", "-o", "lstart=", "-p", str(pid)).split()
    return (said[0][0], " ".join(said[1:])) if said else None


def has_proc() -> bool:
    """Whether this is Linux with /proc; elsewhere `ps` is asked."""
    return os.path.exists("/proc/self/stat")


def _wait_until_dead(
    pid: int, started: "str | None", members: "list[tuple[int, str]]", timeout: float
) -> bool:
    deadline = time.monotonic() + timeout
    pause = 0.005
    while is_ours(pid, started) or any(is_ours(*member) for member in members):
        if time.monotonic() >= deadline:
            return False
        # Nothing wakes us when a process ends that is not our child, so this has to poll.
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _all_processes() -> "list[tuple[int, str, int]]":
    """(pid, state letter, process group) of every process that can be seen."""
    if not has_proc():
        rows = [line.split() for line in _ps("-A", "-o", "pid=", "-o", "state=", "-o", "pgid=").splitlines()]
        return [(int(row[0]), row[1][0], int(row[2])) for row in rows if len(row) == 3]
    found = []
    for name in os.listdir("/proc"):
        fields = _stat_fields(int(name)) if name.isdigit() else None
        if fields:
            found.append((int(name), fields[0], int(fields[2])))
    return found


def _stat_fields(pid: int) -> "list[str] | None":
    """/proc/PID/stat from field 3 (state) on: the second, the name, may hold blanks and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            text = stream.read().decode("ascii", "replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _boot_id() -> str:
    """Start times count from boot, and a reboot must not make an old one match again."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return "?"


def _ps(*options: str) -> str:
    # Start times are printed in the language and the time zone of whoever asks.
    environ = dict(os.environ, LC_ALL="C", TZ="UTC")
    try:
        done = subprocess.run(
            ["ps", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            timeout=10,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode("ascii", "replace")
