"""Who sends a request, as far as its connection tells."""

from __future__ import annotations

from flask import request

from runicorn_remote.api.base import services
from runicorn_remote.peers import Peer

# In the WSGI environment, where our own server (`runicorn_remote.channel`) says which of its addresses a
# connection came to, and which user is at the other end of a unix socket.
LOCAL_ADDRESS = "runicorn_remote.local_address"
PEER_UID = "runicorn_remote.peer_uid"


def tcp_peer() -> Peer | None:
    """The ends of the request's TCP connection; None for a unix socket, or a test client."""
    environ = request.environ
    port = str(environ.get("REMOTE_PORT") or "")
    if not port.isdigit():
        return None
    return Peer(
        (environ.get("REMOTE_ADDR", ""), int(port)),
        int(environ.get("SERVER_PORT", 0)),
        environ.get(LOCAL_ADDRESS),
    )


def caller() -> tuple[int | None, str | None]:
    """User id and address of who sends the request, None where not known; a unix socket has no address."""
    peer = tcp_peer()
    if peer is None:
        return request.environ.get(PEER_UID), None
    try:
        return services().peers.owners.owner_of(peer), peer.remote[0]
    except ValueError:  # another WSGI server gave something that is no address
        return None, peer.remote[0]
