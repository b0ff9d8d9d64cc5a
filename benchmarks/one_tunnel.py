"""One tunnel in a process of its own, with one of its knobs as it would be without us.

    python -m benchmarks.one_tunnel KNOB KNOWN_HOSTS HOST PORT USER KEY REMOTE_PORT

prints the local port, and ends when its input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from runicorn_remote.settings import Settings
from runicorn_remote.ssh import forward_channel, link, packetizer_support, transport
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.forward_channel import WINDOW
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel

CHANNEL_TIMEOUT = 30.0


def as_it_is() -> None:
    pass


def no_settling_command() -> None:
    transport.TunnelTransport.settle = lambda self: None  # type: ignore[method-assign]


def paramikos_cipher_order() -> None:
    transport.AES_GCM = ()  # type: ignore[assignment]


def one_window_for_all_wires() -> None:
    link.LONG_WIRE_WINDOW = WINDOW


def paramikos_packetizer() -> None:
    packetizer_support.is_supported = lambda: False  # type: ignore[assignment]


def no_tcp_nodelay() -> None:
    transport._set_option = lambda *_: None  # type: ignore[assignment]


def packets_of_16_kib() -> None:
    forward_channel.DEFAULT_MAX_PACKET_SIZE = 16 * 1024


def window_of_16_mib() -> None:
    forward_channel.WINDOW = 16 * 1024 * 1024


def paramikos_renewal_of_keys() -> None:
    transport.GCM_REKEY_BYTES = 2**29


KNOBS: dict[str, Callable[[], None]] = {
    knob.__name__: knob
    for knob in (
        as_it_is,
        no_settling_command,
        paramikos_cipher_order,
        one_window_for_all_wires,
        paramikos_packetizer,
        no_tcp_nodelay,
        packets_of_16_kib,
        window_of_16_mib,
        paramikos_renewal_of_keys,
    )
}


def main(
    knob: str, known_hosts: str, host: str, port: str, username: str, key: str, remote_port: str
) -> None:
    KNOBS[knob]()
    settings = Settings(frontend="off", key_roots=(str(Path(key).parent),))
    remote = Connector(settings, KnownHostsFile(Path(known_hosts)))(
        Target(host, int(port), username), Credentials(private_key_path=key, use_agent=False)
    )
    tunnel = Tunnel("knob", local_port=None, max_connections=1000, channel_timeout=CHANNEL_TIMEOUT)
    tunnel.attach(remote.transport, int(remote_port))
    print(tunnel.local_port, flush=True)
    sys.stdin.read()
    tunnel.stop()
    remote.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
