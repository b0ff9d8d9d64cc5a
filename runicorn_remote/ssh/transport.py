"""The SSH transport of every connection: paramiko's, made fit to carry tunnels.

What it changes, and why:

* TCP_NODELAY, else each small answer waits for the peer's delayed ACK (44 ms).
* AES-GCM first: twice the throughput of paramiko's AES-CTR with HMAC. With it the key is renewed
  after 2**36 bytes, as OpenSSH does (RFC 5647 allows it), not after 512 MiB.
* A `direct-tcpip` channel can be opened without waiting for the answer, and is a `ForwardChannel`.
* Packets are read and written in batches (`batch_packetizer.py`), where paramiko is as we know it.
* `post_message` waits neither for a key exchange nor for room in the SSH socket. paramiko's own way
  does both, and in the transport thread, which has to carry that exchange out, it waits for itself.
* An answer to a channel request that was given up is closed properly, and a refusal is told to who asked:
  paramiko keeps one exception a connection, and of two refusals at once one is lost.

Works with paramiko 3.5 and 5.x.
"""

from __future__ import annotations

import collections
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import paramiko
from paramiko.common import (
    CONNECTION_FAILED_CODE,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_OPEN,
    cMSG_SERVICE_REQUEST,
)
from paramiko.message import Message
from paramiko.ssh_exception import IncompatiblePeer

from . import packetizer_support
from .algorithms import WEAK, NothingInCommon, lacks
from .batch_packetizer import BatchPacketizer, no_sink
from .forward_channel import ChannelOwner, ForwardChannel
from .outlet import Outlet, PlainOutlet
from .settling import SettlingChannel

AES_GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
GCM_REKEY_BYTES = 2**36
USER_TIMEOUT = 30.0
_CERTIFICATE = "-cert-v01@openssh.com"
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
_BANNER = re.compile(r"[!-,.-~]+( [ -~]*)?")  # RFC 4253, 4.2: no white space and no minus in the first word
_BANNER_LENGTH = 200
_REMEMBERED_CHANNELS = 4096
_MOST_HELD = 64 * 1024


class TransportObserver(Protocol):
    """Who wants to know what happens to a transport. All must return at once and never raise."""

    def rekeyed(self) -> None:
        """New keys are in use, data may be sent again. Transport thread."""

    def backlogged(self) -> None:
        """Messages wait for room in the SSH socket: `flush` when it is writable. Any thread."""

    def link_lost(self) -> None:
        """The connection is over, for whatever reason. Any thread; may come twice."""


def make_transport_factory(
    *,
    key_types: Sequence[str] = (),
    certificates_first: bool = False,
    allow_weak_algorithms: bool = False,
    client_banner: str | None = None,
    user_timeout: float | None = USER_TIMEOUT,
) -> Callable[..., TunnelTransport]:
    """-> a `transport_factory` for `SSHClient.connect` and for Fabric's `connect_kwargs`.

    `key_types`: host key types to ask for first, as known_hosts spells them. `certificates_first`:
    whether to ask for host certificates before plain keys. `client_banner`: what to call ourselves
    instead of `paramiko_…`, with or without `SSH-2.0-`. `user_timeout`: seconds after which
    unacknowledged data ends the connection, where the platform can do that; None: never.
    Raises `ValueError` for a banner that the protocol does not allow.
    """
    local_version = None if client_banner is None else _version_line(client_banner)

    def factory(sock: Any, **kwargs: Any) -> TunnelTransport:
        transport = TunnelTransport(sock, **kwargs)
        transport.prefer_host_keys(key_types)
        transport.certificates_first = certificates_first
        if not allow_weak_algorithms:
            transport.disable(WEAK)
        transport.set_user_timeout(user_timeout)
        if local_version is not None:
            transport.local_version = local_version
        return transport

    return factory


def _handle_by_name(name: str) -> Callable[[Any, Message], None]:
    """-> a handler for a peer's message to a channel. Transport thread."""

    def handle(channel: Any, message: Message) -> None:
        getattr(channel, name)(message)
        if channel.transport.is_backlogged:
            channel.transport.flush()

    return handle


_Transport: Any = paramiko.Transport  # the type stubs know only its public side


class TunnelTransport(_Transport):
    """One SSH connection. Use `make_transport_factory` to create it."""

    # paramiko's table holds Channel's own functions: an override in a subclass would never be called.
    _channel_handler_table: ClassVar = {
        number: _handle_by_name(handler.__name__)
        for number, handler in _Transport._channel_handler_table.items()
    }

    active: bool
    disabled_algorithms: dict[str, list[str]]
    _preferred_ciphers: tuple[str, ...]
    _preferred_keys: tuple[str, ...]

    def __init__(self, sock: Any, **kwargs: Any) -> None:
        if isinstance(sock, socket.socket) and packetizer_support.is_supported():
            kwargs["packetizer_class"] = BatchPacketizer
        super().__init__(sock, **kwargs)
        self._outlet: Outlet  # guarded by clear_to_send_lock
        if isinstance(self.packetizer, BatchPacketizer):
            self.packetizer.find_sink = self._find_sink
            self._outlet = self.packetizer
        else:
            self._outlet = PlainOutlet(self.packetizer, self.sock)
        self.name = "ssh-transport"
        self._preferred_ciphers = (*AES_GCM, *(c for c in self._preferred_ciphers if c not in AES_GCM))
        self._deferred: collections.deque[Message] = collections.deque()  # guarded by clear_to_send_lock
        # Open, or waiting for the peer's CLOSE; guarded by lock. paramiko's own table holds no reference.
        self._asynchronous: dict[int, ForwardChannel | SettlingChannel] = {}
        self._opening = threading.local()  # number: of the channel this thread's open_channel asks for
        self._refusals: dict[int, paramiko.ChannelException] = {}  # guarded by lock
        self.certificates_first = False
        self._userauth_requested = False
        self._observers: set[TransportObserver] = set()
        self._observers_lock = threading.Lock()
        if isinstance(self.sock, socket.socket):  # not so when a jump host's channel carries us
            _set_option(self.sock, "TCP_NODELAY", 1)

    # --- settings, before the connection starts

    def prefer_host_keys(self, key_types: Sequence[str]) -> None:
        """Ask for host keys of these types (as known_hosts spells them) before all others."""
        wanted = [name for key_type in key_types for name in _signatures(key_type)]
        known = self._preferred_keys
        first = [name for name in dict.fromkeys(wanted) if name in known]
        self._preferred_keys = (*first, *(name for name in known if name not in first))

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """What kinds of host keys to ask for, best first. paramiko reads it for each key exchange."""
        names: tuple[str, ...] = super().preferred_keys
        if not self.certificates_first:
            return names
        return tuple(sorted(names, key=lambda name: not name.endswith(_CERTIFICATE)))

    def disable(self, algorithms: Mapping[str, Sequence[str]]) -> None:
        """Do not offer these, keyed as paramiko's `disabled_algorithms`, nor what is disabled already."""
        before = self.disabled_algorithms
        self.disabled_algorithms = {
            kind: [*before.get(kind, ()), *algorithms.get(kind, ())] for kind in {*before, *algorithms}
        }

    def set_user_timeout(self, seconds: float | None) -> None:
        if seconds is not None and isinstance(self.sock, socket.socket):
            _set_option(self.sock, "TCP_USER_TIMEOUT", int(seconds * 1000))

    # --- any thread

    def post_message(self, message: Message, *, hold: bool = False) -> None:
        """Send as soon as keys and the SSH socket's buffer allow, which is mostly now. Any thread.

        Does not wait, and keeps the order. With `hold`, it may be kept for the caller's `flush`, to go out
        together with others. While anything waits for room in the socket, the observers are `backlogged`,
        and whoever sees it writable calls `flush`.
        """
        with self.clear_to_send_lock:
            if not self.active:
                return
            if self._deferred or not self.clear_to_send.is_set():
                self._deferred.append(message)
                return
            if self._outlet.has_room():
                self._transmit(message, hold=hold)
                if not self._outlet.is_full:
                    return
            else:
                self._deferred.append(message)
        for observer in self._current_observers():
            observer.backlogged()

    def flush(self) -> None:
        """Send what waits or is held, as far as it goes. Any thread."""
        if not self._deferred and not self._outlet.unsent_bytes:
            return
        with self.clear_to_send_lock:
            self._push()
            while self._deferred and self.clear_to_send.is_set() and self._outlet.has_room():
                self._transmit(self._deferred.popleft())

    def can_carry_data(self) -> bool:
        """Whether data that is posted now goes out at once. Any thread."""
        return not (self._deferred or self._outlet.is_full) and self.clear_to_send.is_set()

    @property
    def is_backlogged(self) -> bool:
        """Whether anything waits for room in the SSH socket. Any thread."""
        return self._outlet.is_full or (bool(self._deferred) and self.clear_to_send.is_set())

    def socket_descriptor(self) -> int | None:
        """-> below 0: the SSH socket is closed; None: it is a jump host's channel. Any thread."""
        return self.sock.fileno() if isinstance(self.sock, socket.socket) else None

    def open_channel(self, *arguments: Any, **options: Any) -> paramiko.Channel:
        """As paramiko's; a refusal is always a `ChannelException`, and this channel's own. Any thread."""
        try:
            channel: paramiko.Channel = super().open_channel(*arguments, **options)
            return channel
        except paramiko.SSHException as error:
            with self.lock:
                number = getattr(self._opening, "number", -1)
                self.channel_events.pop(number, None)
                refusal = self._refusals.pop(number, None)
            if refusal is None:
                raise
            raise refusal from error

    def open_forward(
        self,
        owner: ChannelOwner,
        sock: socket.socket,
        destination: tuple[str, int],
        origin: tuple[str, int],
        *,
        hold: bool = False,
    ) -> ForwardChannel:
        """Ask for a `direct-tcpip` channel; `owner.wake` announces the answer. Any thread.

        `hold` as in `post_message`.
        """
        with self.lock:
            channel = ForwardChannel(self._next_channel(), self, sock, owner)
            self._expect(channel)
        message = _open_request("direct-tcpip", channel)
        for host, port in (destination, origin):
            message.add_string(host)
            message.add_int(port)
        self.post_message(message, hold=hold)
        return channel

    def settle(self) -> None:
        """Have the server run a command; from then on it sends small packets at once. Any thread, no wait."""
        with self.lock:
            channel = SettlingChannel(self._next_channel(), self)
            self._expect(channel)
        self.post_message(_open_request("session", channel))

    def _expect(self, channel: ForwardChannel | SettlingChannel) -> None:
        """Holding lock: the answer to a request that is about to be sent is for this channel."""
        self._channels.put(channel.chanid, channel)
        self._asynchronous[channel.chanid] = channel
        self.channels_seen[channel.chanid] = True

    def release(self, channel: ForwardChannel | SettlingChannel) -> None:
        """Forget a channel that both sides have closed, or that was refused. Any thread."""
        with self.lock:
            if self._asynchronous.pop(channel.chanid, None) is None:
                return
            self._channels.delete(channel.chanid)

    def _next_channel(self) -> int:
        """The id of a new channel, of ours or of paramiko's own (commands, probes). Holding lock.

        A message for an id that was never seen ends the connection, so all are remembered, but not for
        ever: a connection that lives for weeks has had millions.
        """
        if len(self.channels_seen) > _REMEMBERED_CHANNELS:
            oldest = next(iter(self.channels_seen))
            del self.channels_seen[oldest]
            if self._channels.get(oldest) is not None:  # still open
                self.channels_seen[oldest] = True
        chanid: int = super()._next_channel()
        self._opening.number = chanid
        return chanid

    def add_observer(self, observer: TransportObserver) -> None:
        """Any thread. A transport that has ended already says so at once."""
        with self._observers_lock:
            self._observers.add(observer)
        if not self.active:
            self._report_loss()

    def remove_observer(self, observer: TransportObserver) -> None:
        """Any thread."""
        with self._observers_lock:
            self._observers.discard(observer)

    def close(self) -> None:
        """End the connection. Any thread; does not wait for the network."""
        super().close()
        self._report_loss()

    # --- transport thread

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.packetizer.complete_handshake()  # a handshake that failed leaves its timer thread behind
            self._report_loss()
            if isinstance(self.packetizer, BatchPacketizer):
                self.packetizer.find_sink = no_sink  # else a cycle would keep its buffers until a collection
            with self.lock:
                self._asynchronous.clear()

    def _find_sink(self, chanid: int) -> ForwardChannel | None:
        """-> who takes this channel's data as it comes; None: paramiko's loop has to see the message."""
        if self._expected_packet:  # in a key exchange, where data is an error
            return None
        channel = self._asynchronous.get(chanid)
        return channel if isinstance(channel, ForwardChannel) else None

    def _send_message(self, data: Message) -> None:
        """Ask for the authentication service once (RFC 4253, 10), not again for every credential.

        paramiko asks each time. OpenSSH puts up with it, stricter servers hang up.
        """
        if data.asbytes()[:1] == cMSG_SERVICE_REQUEST:
            if self._userauth_requested:
                accepted = Message()
                accepted.add_string("ssh-userauth")
                accepted.rewind()
                self.auth_handler._parse_service_accept(accepted)
                return
            self._userauth_requested = True
        super()._send_message(data)

    def _send_user_message(self, data: Message) -> None:
        if threading.current_thread() is self:
            self.post_message(data)
        else:
            super()._send_user_message(data)

    def _parse_kex_init(self, m: Message) -> None:
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer as error:
            m.rewind()
            missing = lacks(self, self._really_parse_kex_init(m))
            raise NothingInCommon(missing) if missing else error from error

    def _parse_newkeys(self, m: Message) -> None:
        if not self.initial_kex_done and {self.local_cipher, self.remote_cipher} <= set(AES_GCM):
            self.packetizer.REKEY_BYTES = GCM_REKEY_BYTES
        super()._parse_newkeys(m)
        self.flush()
        for observer in self._current_observers():
            observer.rekeyed()

    def _parse_channel_open_success(self, m: Message) -> None:
        chanid = m.get_int()
        channel = self._channels.get(chanid)
        if isinstance(channel, (ForwardChannel, SettlingChannel)):
            channel.confirm(m.get_int(), m.get_int(), m.get_int())
        elif channel is None and chanid in self.channels_seen:
            self._close_late_channel(m.get_int())
        else:
            m.rewind()
            super()._parse_channel_open_success(m)

    def _parse_channel_open_failure(self, m: Message) -> None:
        chanid = m.get_int()
        channel = self._channels.get(chanid)
        if isinstance(channel, (ForwardChannel, SettlingChannel)):
            self.release(channel)
            channel.refuse()
            return
        reason = m.get_int()
        with self.lock:
            asked = self.channel_events.pop(chanid, None)
            if asked is not None:  # else nobody waits for it any more
                text = CONNECTION_FAILED_CODE.get(reason, "(unknown code)")
                self._refusals[chanid] = paramiko.ChannelException(reason, text)
                self._channels.delete(chanid)
                asked.set()

    def _close_late_channel(self, remote_chanid: int) -> None:
        """Whoever asked for this channel has stopped waiting."""
        message = Message()
        message.add_byte(cMSG_CHANNEL_CLOSE)
        message.add_int(remote_chanid)
        self.post_message(message)

    # --- any thread

    def _transmit(self, message: Message, *, hold: bool = False) -> None:
        """Holding clear_to_send_lock."""
        try:
            self._outlet.post(message)
            if not hold or self._outlet.unsent_bytes >= _MOST_HELD:
                self._outlet.push()
        except (EOFError, OSError, paramiko.SSHException):
            # Part of a packet may be out, so nothing can follow it. The transport thread notices, and ends.
            self.packetizer.close()

    def _push(self) -> None:
        """Holding clear_to_send_lock."""
        try:
            self._outlet.push()
        except OSError:
            self.packetizer.close()

    def _current_observers(self) -> list[TransportObserver]:
        with self._observers_lock:
            return list(self._observers)

    def _report_loss(self) -> None:
        for observer in self._current_observers():
            self.remove_observer(observer)
            observer.link_lost()


def _open_request(kind: str, channel: paramiko.Channel) -> Message:
    """The message that asks for a channel (RFC 4254, 5.1), up to what depends on its kind."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_OPEN)
    message.add_string(kind)
    message.add_int(channel.chanid)
    message.add_int(channel.in_window_size)
    message.add_int(channel.in_max_packet_size)
    return message


def _version_line(banner: str) -> str:
    name = banner.removeprefix("SSH-2.0-")
    if len(name) > _BANNER_LENGTH or not _BANNER.fullmatch(name):
        raise ValueError(f"client banner {banner!r}: printable ASCII, no minus or space in its first word")
    return f"SSH-2.0-{name}"


def _signatures(key_type: str) -> tuple[str, ...]:
    """A key type of known_hosts -> the algorithms that prove such a key, best first."""
    return _RSA_SIGNATURES if key_type == "ssh-rsa" else (key_type,)


def _set_option(sock: socket.socket, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        with contextlib.suppress(OSError):  # macOS: the peer has closed already
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
