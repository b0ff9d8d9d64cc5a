"""One tunnel in a process of its own, with one of its knobs as it would be without us.

    python -m benchmarks.one_tunnel KNOB KNOWN_HOSTS HOST PORT USER KEY REMOTE_PORT

prints the local port, and ends when its input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paramiko.packet import Packetizer

from runicorn_remote.settings import Settings
from runicorn_remote.ssh import forward_channel, link, packetizer_support, transport
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.forward_channel import WINDOW
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel

CHANNEL_TIMEOUT = 30.0


def as_it_is() -> None:
    """ours"""


def no_settling_command() -> None:
    """no settling command"""
    transport.TunnelTransport.settle = lambda self: None  # type: ignore[method-assign]


def paramikos_cipher_order() -> None:
    """paramiko's order of ciphers"""
    transport.AES_GCM = ()  # type: ignore[assignment]


def one_window_for_all_wires() -> None:
    """one window for all wires"""
    link.LONG_WIRE_WINDOW = WINDOW


def no_tcp_nodelay() -> None:
    """no TCP_NODELAY"""

    def set_other_option(sock: Any, name: str, *value: Any, **more: Any) -> None:
        if name != "TCP_NODELAY":
            set_option(sock, name, *value, **more)

    set_option, transport._set_option = transport._set_option, set_other_option


def packets_of_16_kib() -> None:
    """packets of 16 KiB"""
    forward_channel.DEFAULT_MAX_PACKET_SIZE = 16 * 1024


def packets_of_64_kib() -> None:
    """packets of 64 KiB"""
    forward_channel.DEFAULT_MAX_PACKET_SIZE = 64 * 1024


def paramikos_key_renewal() -> None:
    """paramiko's renewal of keys"""
    transport.GCM_REKEY_BYTES = Packetizer.REKEY_BYTES


def paramikos_packetizer() -> None:
    """paramiko's packetizer"""
    packetizer_support.is_supported = lambda *_: False  # type: ignore[assignment]


def window_of_16_mib() -> None:
    """window of 16 MiB"""
    forward_channel.WINDOW = 16 * 1024 * 1024


# Each has its name in tables as its docstring.
KNOBS: dict[str, Callable[[], None]] = {
    knob.__name__: knob
    for knob in (
        as_it_is,
        no_settling_command,
        no_tcp_nodelay,
        paramikos_cipher_order,
        paramikos_key_renewal,
        packets_of_16_kib,
        packets_of_64_kib,
        paramikos_packetizer,
        one_window_for_all_wires,
        window_of_16_mib,
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
