"""Which `Packetizer` of paramiko's can be replaced."""

from __future__ import annotations

from typing import Any

from paramiko.message import Message
from paramiko.packet import Packetizer

from runicorn_remote.ssh.packetizer_support import is_supported


def test_this_paramiko_is_supported() -> None:
    """If this fails after an upgrade: read what has changed in `paramiko/packet.py`."""
    assert is_supported()


def test_one_that_lacks_a_name_is_not() -> None:
    class Changed(Packetizer):
        def __init__(self, sock: Any) -> None:
            super().__init__(sock)
            del self._Packetizer__iv_in  # type: ignore[attr-defined]

    assert not is_supported(Changed)


def test_nor_one_whose_methods_take_something_else() -> None:
    class Changed(Packetizer):
        def read_all(self, n: int, check_rekey: bool = False, more: int = 0) -> bytes:  # type: ignore[override]
            raise NotImplementedError

    assert not is_supported(Changed)


def test_nor_one_that_does_more() -> None:
    class Changed(Packetizer):
        def read_message(self) -> tuple[int, Message]:
            self.another_check()  # type: ignore[attr-defined]
            return super().read_message()

    assert not is_supported(Changed)
