"""The sessions of an earlier server on this state directory, as far as they can be had without asking."""

from __future__ import annotations

import logging

from runicorn_remote.clock import Clock
from runicorn_remote.errors import RemoteError
from runicorn_remote.services.connections import Connections, Login
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_store import SessionRecord
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.target import Credentials

logger = logging.getLogger(__name__)


def restored(
    records: list[SessionRecord], connections: Connections, holdings: SessionHoldings, clock: Clock
) -> list[ViewerSession]:
    """`reconnecting`, with their local ports and credentials; those whose port is taken `disconnected`.

    Asks no host: what is to be done there is `Recovery`'s.
    """
    sessions = []
    for record in records:
        session = ViewerSession.from_record(record, clock)
        session.credentials = _recalled_credentials(record, connections)
        try:
            holdings.bind(session)
        except RemoteError as error:
            session.give_up(str(error), error.code)
        sessions.append(session)
    return sessions


def _recalled_credentials(record: SessionRecord, connections: Connections) -> Credentials | None:
    """The agent, a key file, a saved server; None if they need a secret that is not stored."""
    login = Login(
        host=record.host,
        port=record.port,
        username=record.username,
        private_key_path=record.private_key_path,
        use_agent=record.use_agent,
        saved_server_id=record.saved_server_id,
    )
    try:
        credentials = connections.resolve(login)[1]
    except RemoteError as error:
        logger.info("Session %s: its saved server cannot be used: %s", record.session_id, error)
        return None
    return credentials if credentials.has_secret or not record.needs_secret else None
