"""What passes between a login node and a compute node. Runs on the remote machine: Python >= 3.6.

A frame: stream id (4 bytes), kind (1), length of the payload (2), the payload, a line end. The line end
is not for us: Slurm's slurmstepd holds back what a task writes until a line is whole or 1024 bytes long
(`_task_build_message` in its io.c). Numbers are in network byte order.
"""

import struct

# Of a stream, in both directions: bytes, no more bytes to come, the connection broke, so many bytes more
# may be sent. OPEN comes from the login node. PING and the last two are about no stream: the viewer
# listens; the viewer has ended (with its exit status).
OPEN, DATA, EOF, RESET, CREDIT, PING, READY, ENDED = range(8)

MAX_PAYLOAD = 32 * 1024
# Bytes that may be under way in one direction of a stream and not be taken by its reader yet.
WINDOW = 256 * 1024

_FRAME_HEAD = struct.Struct("!IBH")
_NUMBER = struct.Struct("!I")
_LINE_END = b"\n"


class FrameError(Exception):
    """The other side does not speak as we do; most often something printed in between."""


def frame(kind: int, stream: int = 0, payload: bytes = b"") -> bytes:
    return _FRAME_HEAD.pack(stream, kind, len(payload)) + payload + _LINE_END


def numbered(kind: int, stream: int, number: int) -> bytes:
    """A frame whose payload is a number."""
    return frame(kind, stream, _NUMBER.pack(number))


def number_in(payload: bytes) -> int:
    if len(payload) != _NUMBER.size:
        raise FrameError("a number of another size")
    return int(_NUMBER.unpack(payload)[0])


class FrameReader:
    """Puts frames together from pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "list[tuple[int, int, bytes]]":
        """(kind, stream, payload) of every frame that is whole now. Raises `FrameError`."""
        self._buffer += data
        found = []
        at = 0
        while len(self._buffer) - at > _FRAME_HEAD.size:
            stream, kind, length = _FRAME_HEAD.unpack_from(self._buffer, at)
            if kind > ENDED or length > MAX_PAYLOAD:
                raise FrameError("no frame")
            begin = at + _FRAME_HEAD.size
            end = begin + length
            if len(self._buffer) <= end:
                break
            if self._buffer[end : end + 1] != _LINE_END:
                raise FrameError("a frame without its end")
            found.append((kind, stream, bytes(self._buffer[begin:end])))
            at = end + 1
        del self._buffer[:at]
        return found
