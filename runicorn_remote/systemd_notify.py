"""Tell systemd how the service is: sd_notify(3), one datagram to the socket that `$NOTIFY_SOCKET` names.

Without that variable (no systemd, or not `Type=notify`) nothing is done.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"
# systemd takes at once what is sent to it. A full queue must not hold up a start or an end.
_TIMEOUT = 1.0


def notify(*, environ: Mapping[str, str] | None = None, **states: str | int) -> bool:
    """`notify(READY=1, STATUS="Listening")`; whether it was sent. Any thread; never raises."""
    address = (os.environ if environ is None else environ).get(VARIABLE, "")
    family = getattr(socket, "AF_UNIX", None)
    if not address.startswith(("/", "@")) or family is None:
        return False
    if address.startswith("@"):  # an abstract socket (unix(7))
        address = "\0" + address[1:]
    message = "".join(f"{name}={_one_line(value)}\n" for name, value in states.items())
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_TIMEOUT)
            sock.connect(address)
            sock.sendall(message.encode("utf-8", "replace"))
    except OSError as error:
        logger.warning("systemd cannot be notified: %s", error)
        return False
    return True


def _one_line(value: str | int) -> str:
    """A line end would begin another assignment."""
    return " ".join(str(value).split())
