"""Where the key of the saved secrets is: Runicorn's file, the system's keyring, or a systemd credential.

Each place holds the current key, and for the time of a change (`services.key_rotation`) the next one
beside it, so that a change that is cut off loses nothing. Keys are bytes as `Fernet.generate_key()`
makes them. Everything here raises `StateError`, and may be called from any thread and several
processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import (
    create_private,
    read_private,
    remove_private,
    replace_private,
    write_private,
)
from runicorn_remote.services.system_keyring import Keyring
from runicorn_remote.settings import Settings, SettingsError

KEY_FILE = ".secret.key"
CREDENTIAL = "runicorn-remote-key"
OLD_CREDENTIAL = "runicorn-remote-key-old"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"

_MAX_KEY_BYTES = 4096


class SecretKeys(Protocol):
    """One place."""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""

    def current(self) -> bytes | None: ...

    def next(self) -> bytes | None:
        """The key of a change that is under way, or was cut off."""

    def create(self, key: bytes) -> None:
        """Make `key` the current one, unless there is one."""

    def stage(self) -> bytes:
        """Have a next key, and return it.

        That of a change that was cut off is taken up: what it encrypted may be all there is.
        """

    def commit(self) -> None:
        """The next key is the current one from here on."""

    def forget(self) -> None:
        """Read anew what may have been remembered."""

    def remove(self) -> bool:
        """Remove the current key, which opens nothing any more. False if it is not ours to remove."""


class KeyFile:
    """Runicorn's own file; the next key is in `<name>.next` beside it. Read on every call: Runicorn may
    create or restore it beside us."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.next")

    @property
    def name(self) -> str:
        return str(self._path)

    def current(self) -> bytes | None:
        return read_private(self._path, _MAX_KEY_BYTES)

    def next(self) -> bytes | None:
        return read_private(self._next, _MAX_KEY_BYTES)

    def create(self, key: bytes) -> None:
        create_private(self._path, key)  # whoever loses the race uses the winner's

    def stage(self) -> bytes:
        key = self.next()
        if key is None:
            key = Fernet.generate_key()
            write_private(self._next, key)
        return key

    def commit(self) -> None:
        replace_private(self._next, self._path)

    def forget(self) -> None:
        pass

    def remove(self) -> bool:
        remove_private(self._path)
        return True


class Credential:
    """A credential of the systemd unit: `LoadCredential=` or `LoadCredentialEncrypted=` (systemd.exec(5)).

    The service manager owns the directory; it is read-only, and has to be.
    """

    def __init__(self, credential: str = CREDENTIAL, environ: Mapping[str, str] | None = None) -> None:
        self._credential = credential
        self._environ = os.environ if environ is None else environ

    @property
    def name(self) -> str:
        return f"the credential {self._credential}"

    def current(self) -> bytes | None:
        directory = self._environ.get(CREDENTIALS_VARIABLE)
        if not directory:
            return None
        try:
            with (Path(directory) / self._credential).open("rb") as stream:
                return stream.read(_MAX_KEY_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.name} cannot be read: {error.strerror or error}.") from error

    def next(self) -> bytes | None:
        return None

    def create(self, key: bytes) -> None:
        raise self._missing()

    def stage(self) -> bytes:
        """The unit was given the next key already, as the current one."""
        key = self.current()
        if key is None:
            raise self._missing()
        return key

    def commit(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def remove(self) -> bool:
        return False

    def _missing(self) -> StateError:
        return StateError(
            f"There is no credential {self._credential}: give it to the unit with LoadCredential=, or set "
            "secret_key to another place."
        )


def keys_in(kind: str, state_dir: Path) -> SecretKeys:
    """The place that a value of the setting `secret_key` names."""
    if kind == "keyring":
        return Keyring(str(state_dir.absolute()))
    if kind == "credential":
        return Credential()
    return KeyFile(state_dir / KEY_FILE)


def places(settings: Settings) -> tuple[SecretKeys, list[SecretKeys]]:
    """-> where the key is, and where earlier ones may be that still open what was saved with them."""
    kind, state_dir = settings.secret_key, settings.resolved_state_dir()
    earlier: list[SecretKeys] = []
    if kind == "credential":
        earlier.append(Credential(OLD_CREDENTIAL))
    if kind != "file":
        earlier.append(keys_in("file", state_dir))
    return keys_in(kind, state_dir), earlier


def check_available(settings: Settings) -> None:
    """Raise `SettingsError` if the place that was chosen cannot be used; a file is made when it is needed."""
    kind = settings.secret_key
    if kind == "file":
        return
    keys, _ = places(settings)
    try:
        missing = keys.current() is None
    except StateError as error:
        raise SettingsError(f"secret_key: {error}") from error
    if missing and kind == "credential":
        raise SettingsError(
            f"secret_key: there is no credential {CREDENTIAL}; give it to the unit with LoadCredential="
        )
