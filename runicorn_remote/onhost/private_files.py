"""A viewer's private directory and its files. Runs on the remote machine: Python >= 3.6, standard library.

    ${XDG_STATE_HOME:-~/.local/state}/runicorn-remote/<hostname>/<session id>/
        viewer.log      everything the viewer prints and logs
        viewer.json     the record: which process it is
        logs/session/   where runicorn puts what it does not put into viewer.log

Named after the host, as home directories are shared between hosts and pids are not. Where the home
cannot be written to: `$XDG_RUNTIME_DIR/runicorn-remote`, else `/tmp/runicorn-remote-<random>`.
Inside these only directories of mode 0700 that belong to us are entered, and no symbolic link is followed.
"""

import errno
import json
import os
import re
import socket
import stat
from typing import Callable  # noqa: UP035

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.processes import is_session_id

OUR_DIRECTORY = "runicorn-remote"
LOG_NAME = "viewer.log"
RECORD_NAME = "viewer.json"
# All that may be there, so that removing it never means removing a tree.
FILES_OF_A_VIEWER = (
    LOG_NAME,
    RECORD_NAME,
    RECORD_NAME + ".new",
    "logs/session/viewer.log",
    *("relay.py", "relay.py.new", "node.sh", "node.sh.new", "node", "node.new"),  # see `node_files`
)
DIRECTORIES_OF_A_VIEWER = ("logs/session", "logs")
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")


def to_path(text: str) -> str:
    """A path from a JSON text. File names are UTF-8, whatever the locale of this login says."""
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise Failure("INVALID_VALUE", "A path holds a character that no file name can have") from None


def to_text(path: str) -> str:
    """The JSON text for a path; `to_path` gives the path back."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def private_dir(session_id: str) -> str:
    """Create the session's directory, or check the one that is there. Raises Failure if it is not safe."""
    for root in _usual_roots():
        try:
            os.makedirs(os.path.dirname(root), mode=0o700, exist_ok=True)
            return _our_levels(root, session_id)
        except OSError:
            continue  # Read-only, over quota, a file in its place: there is another.
    import tempfile  # takes 4 ms that are hardly ever needed

    return _our_levels(tempfile.mkdtemp(prefix=OUR_DIRECTORY + "-"), session_id)


def find_private_dir(session_id: str) -> "str | None":
    """The session's directory if there is one, wherever it had to be put."""
    for root in _all_roots():
        directory = os.path.join(root, host_name(), session_id)
        if is_private_dir(directory, session_id):
            return directory
    return None


def private_dirs() -> "list[tuple[str, str]]":
    """(session id, directory) of every viewer of this account on this machine, wherever it had to be put."""
    found = []
    for root in _all_roots():
        host_level = os.path.join(root, host_name())
        try:
            names = os.listdir(host_level)
        except OSError:
            continue
        found += [(name, os.path.join(host_level, name)) for name in names if is_session_id(name)]
    return found


def is_private_dir(directory: str, session_id: str) -> bool:
    """Whether this is `.../runicorn-remote[-x]/<hostname>/<session id>`, three directories of our own."""
    host_level, name = os.path.split(directory)
    root = os.path.dirname(host_level)
    root_name = os.path.basename(root)
    if name != session_id or not os.path.isabs(directory) or os.path.normpath(directory) != directory:
        return False
    if root_name != OUR_DIRECTORY and not root_name.startswith(OUR_DIRECTORY + "-"):
        return False
    return all(problem_with(level) is None for level in (root, host_level, directory))


def remove_private_dir(directory: str, session_id: str) -> bool:
    """Remove a viewer's files and their directory. False if something else lies in it; it stays then."""
    if not is_private_dir(directory, session_id):
        return False
    # A linked `logs` would lead out of the directory.
    inside = [name for name in DIRECTORIES_OF_A_VIEWER if not os.path.islink(os.path.join(directory, name))]
    if len(inside) < len(DIRECTORIES_OF_A_VIEWER):
        return False
    for name in FILES_OF_A_VIEWER:
        _quietly(os.unlink, os.path.join(directory, name))
    for name in inside:
        _quietly(os.rmdir, os.path.join(directory, name))
    removed = _quietly(os.rmdir, directory)
    host_level = os.path.dirname(directory)
    if os.path.basename(os.path.dirname(host_level)) != OUR_DIRECTORY:
        # Made for this one session by mkdtemp.
        _quietly(os.rmdir, host_level)
        _quietly(os.rmdir, os.path.dirname(host_level))
    return removed


def host_name() -> str:
    """This machine's name, as the name of a directory."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:64].lstrip(".") or "localhost"


def open_log(directory: str) -> int:
    """A descriptor to append to a new, empty log that only we can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(os.path.join(directory, LOG_NAME), flags, 0o600)


def write_record(directory: str, record: dict) -> None:
    """Replace viewer.json as a whole, so that no reader ever sees half of one."""
    write_private_file(directory, RECORD_NAME, json.dumps(record))


def read_record(directory: str) -> dict:
    """What viewer.json holds; an empty dict if there is no usable one."""
    try:
        record = json.loads(read_private_file(directory, RECORD_NAME, 65536))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def write_private_file(directory: str, name: str, text: str) -> None:
    """Make or replace a file that only we can read, as a whole."""
    path = os.path.join(directory, name)
    _quietly(os.unlink, path + ".new")
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(os.fsencode(text))
    os.replace(path + ".new", path)


def read_private_file(directory: str, name: str, size: int) -> str:
    """The text of a small file; empty if there is none that can be used."""
    try:
        return _last_bytes(os.path.join(directory, name), size).decode("utf-8")
    except (OSError, ValueError):
        return ""


def log_tail(path: str, lines: int = 20, size: int = 8192) -> "list[str]":
    """The last lines of a file, oldest first: no control characters, at most 300 characters each."""
    try:
        data = _last_bytes(path, size + 1)
    except OSError:
        return []
    if len(data) > size and b"\n" in data:
        data = data[data.index(b"\n") + 1 :]
    shown = []
    for line in data.decode("utf-8", "replace").split("\n"):
        line = without_escapes(line)[:300].rstrip()
        if line:
            shown.append(line)
    return shown[-lines:]


def without_escapes(line: str) -> str:
    """A line without colours, control characters and the blanks at its end."""
    line = _ESCAPES.sub("", line).replace("\t", " ")
    return "".join(character for character in line if character.isprintable()).rstrip()


def _last_bytes(path: str, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        details = os.fstat(descriptor)
        if not stat.S_ISREG(details.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        stream.seek(max(0, details.st_size - size))
        return stream.read(size)


def _usual_roots() -> "list[str]":
    home = os.path.expanduser("~")
    state_home = os.environ.get("XDG_STATE_HOME", "")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(state_home):
        state_home = os.path.join(home, ".local", "state")
    candidates = [state_home] + ([runtime] if os.path.isabs(runtime) else [])
    return [os.path.join(os.path.normpath(path), OUR_DIRECTORY) for path in candidates if os.path.isabs(path)]


def _all_roots() -> "list[str]":
    import tempfile

    temporary = tempfile.gettempdir()
    made = [name for name in os.listdir(temporary) if name.startswith(OUR_DIRECTORY + "-")]
    return _usual_roots() + [os.path.join(temporary, name) for name in made]


def _our_levels(root: str, session_id: str) -> str:
    directory = root
    for level in ("", host_name(), session_id):
        directory = os.path.join(directory, level) if level else root
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            problem = problem_with(directory)
            if problem:
                raise Failure("PRIVATE_DIRECTORY_UNSAFE", f"{to_text(directory)}: {problem}") from None
            os.chmod(directory, 0o700)
    return directory


def problem_with(directory: str) -> "str | None":
    """Why this is not a directory of our own that nobody put there for us; None if it is."""
    try:
        details = os.lstat(directory)
    except (OSError, ValueError) as error:
        return str(error)
    if stat.S_ISLNK(details.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(details.st_mode):
        return "is not a directory"
    if details.st_uid != os.geteuid():
        return "belongs to another user"
    return None


def _quietly(action: "Callable[[str], None]", path: str) -> bool:
    try:
        action(path)
    except OSError:
        return False
    return True
