"""The key of the saved secrets in the system's keyring: Secret Service, KWallet, macOS, Windows.

Through the library `keyring`, which is an extra (`runicorn-remote[keyring]`). Its backends talk to
other programs, which may ask a person for a password: every question has a time-out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from cryptography.fernet import Fernet

from runicorn_remote.errors import StateError

_SERVICE = "runicorn-remote"
_PATIENCE = 30.0  # seconds

Answer = TypeVar("Answer")


class Keyring:
    """A place of `services.secret_keys`. The key is remembered, until `forget`."""

    def __init__(self, account: str) -> None:
        """`account` tells the keys of several state directories apart."""
        self._account = account
        self._lock = threading.Lock()
        self._known: bytes | None = None

    @property
    def name(self) -> str:
        return "the key in the keyring"

    def current(self) -> bytes | None:
        with self._lock:
            known = self._known
        if known is None:
            known = self._get(self._account)
            with self._lock:
                self._known = known
        return known

    def next(self) -> bytes | None:
        return self._get(f"{self._account}#next")

    def create(self, key: bytes) -> None:
        if self._get(self._account) is None:
            self._set(self._account, key)

    def stage(self) -> bytes:
        key = self.next()
        self.forget()
        # A change that was cut off at its very end left the key it had made current.
        if key is None or key == self.current():
            key = Fernet.generate_key()
            self._set(f"{self._account}#next", key)
        return key

    def commit(self) -> None:
        key = self.next()
        if key is None:
            raise StateError("The next key is not in the keyring any more. Nothing was changed there.")
        self._set(self._account, key)
        self.forget()
        self._delete(f"{self._account}#next")

    def forget(self) -> None:
        with self._lock:
            self._known = None

    def remove(self) -> bool:
        self.forget()
        self._delete(self._account)
        return True

    def _get(self, account: str) -> bytes | None:
        def ask() -> str | None:
            import keyring

            return keyring.get_password(_SERVICE, account)

        text = _within_reason(ask)
        return None if text is None else text.encode("utf-8", "replace")

    def _set(self, account: str, key: bytes) -> None:
        def ask() -> None:
            import keyring

            keyring.set_password(_SERVICE, account, key.decode("ascii"))

        _within_reason(ask)

    def _delete(self, account: str) -> None:
        def ask() -> None:
            import keyring
            import keyring.errors

            with contextlib.suppress(keyring.errors.PasswordDeleteError):  # it is not there
                keyring.delete_password(_SERVICE, account)

        _within_reason(ask)


def _within_reason(question: Callable[[], Answer]) -> Answer:
    """Ask the keyring, in a thread that is left alone if it does not answer."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:  # noqa: BLE001 (of any backend, and passed on)
            errors.append(error)

    thread = threading.Thread(target=ask, name="keyring", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if answers:
        return answers[0]
    if not errors:
        raise StateError(f"The keyring has not answered for {_PATIENCE:g} seconds. Unlock it and try again.")
    if isinstance(errors[0], ImportError):
        raise StateError("The keyring needs a library: pip install 'runicorn-remote[keyring]'.")
    raise StateError(
        f"The keyring cannot be used: {errors[0] or type(errors[0]).__name__} "
        "Unlock it, or set secret_key to another place."
    ) from errors[0]
