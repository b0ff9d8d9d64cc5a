"""Tunnels over one connection with nothing to do, in a process of their own, by the same code as the server.

    python -m benchmarks.idle_tunnels KNOWN_HOSTS HOST PORT USER KEY     prints one JSON object

`tunnels`: threads and MB in all more than the bare connection, for growing numbers of tunnels, and the
seconds that the last ones took to start, with a first connection; `connections`: the same for connections
through one tunnel, with the seconds to open one.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import statistics
import sys
import time
from pathlib import Path

from benchmarks.machine import memory_mb, thread_count
from benchmarks.rows.idle import CONNECTIONS, NUMBERS
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.transport import TunnelTransport
from runicorn_remote.ssh.tunnel import Tunnel

TIMEOUT = 30.0
LAST = 9


def main(known_hosts: str, host: str, port: str, username: str, key: str) -> None:
    # Something to reach: a listener whose backlog takes every connection, so that nobody's memory is counted.
    far = socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS[-1])
    far.settimeout(TIMEOUT)
    settings = Settings(frontend="off", key_roots=(str(Path(key).parent),))
    remote = Connector(settings, KnownHostsFile(Path(known_hosts)))(
        Target(host, int(port), username), Credentials(private_key_path=key, use_agent=False)
    )
    try:
        transport = remote.transport
        answer = {
            "tunnels": tunnels(transport, far),
            "connections": connections(transport, far),
        }
    finally:
        remote.close()
    print(json.dumps(answer))


def tunnels(transport: TunnelTransport, far: socket.socket) -> list[dict[str, float]]:
    made: list[Tunnel] = []
    taken: list[float] = []
    memory, threads = now()
    answer = []
    for number in NUMBERS:
        while len(made) < number:
            began = time.perf_counter()
            made.append(new_tunnel(transport, far.getsockname()[1]))
            client = socket.create_connection(("127.0.0.1", made[-1].local_port), timeout=TIMEOUT)
            client.sendall(b"x")
            _arrival(far).close()
            taken.append(time.perf_counter() - began)
            client.close()
        more, running = now()
        seconds = statistics.median(taken[-LAST:])
        answer.append(
            {"number": number, "memory": more - memory, "threads": running - threads, "seconds": seconds}
        )
    for tunnel in made:
        tunnel.stop()
    return answer


def connections(transport: TunnelTransport, far: socket.socket) -> list[dict[str, float]]:
    tunnel = new_tunnel(transport, far.getsockname()[1])
    clients: list[socket.socket] = []
    reached: list[socket.socket] = []
    memory, threads = now()
    answer = []
    try:
        for number in CONNECTIONS:
            began = time.perf_counter()
            added = number - len(clients)
            while len(clients) < number:
                client = socket.create_connection(("127.0.0.1", tunnel.local_port), timeout=TIMEOUT)
                client.sendall(b"x")
                clients.append(client)
                reached.append(_arrival(far))
            seconds = (time.perf_counter() - began) / added
            more, running = now()
            answer.append(
                {"number": number, "memory": more - memory, "threads": running - threads, "seconds": seconds}
            )
    finally:
        for sock in (*clients, *reached):
            sock.close()
        tunnel.stop()
    return answer


def new_tunnel(transport: TunnelTransport, far: int) -> Tunnel:
    tunnel = Tunnel("idle", local_port=None, max_connections=2000, channel_timeout=TIMEOUT)
    tunnel.attach(transport, far)
    return tunnel


def now() -> tuple[float, int]:
    """-> MB and threads of this process."""
    gc.collect()
    return memory_mb(os.getpid()), thread_count(os.getpid())


def _arrival(far: socket.socket) -> socket.socket:
    while True:
        sock, _ = far.accept()
        if sock.recv(1):  # else one that the first part opened and closed
            return sock
        sock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
