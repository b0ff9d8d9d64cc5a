"""Whether paramiko's `Packetizer` is the one that `BatchPacketizer` knows: that of paramiko 3.5 and 5.1.

Everything it relies on has to be there. And the methods it replaces must use nothing else: where a new
release checks or counts something more, our version would not, so paramiko's own has to be used.
"""

from __future__ import annotations

import inspect
from typing import Any

from paramiko.packet import Packetizer

# What paramiko's `read_message`, `send_message` and `write_all` use.
_STATE = frozenset(
    f"_Packetizer__{name}"
    for name in (
        *("socket", "closed", "remainder", "need_rekey", "dump_packets", "keepalive_last", "write_lock"),
        *("received_bytes", "received_packets", "received_bytes_overflow", "received_packets_overflow"),
        *("aead_in", "iv_in", "block_engine_in", "block_size_in", "mac_size_in", "compress_engine_in"),
        *("etm_in", "mac_engine_in", "mac_key_in", "sequence_number_in"),
        *("aead_out", "iv_out", "block_engine_out", "mac_size_out", "compress_engine_out"),
        *("etm_out", "mac_engine_out", "mac_key_out", "sequence_number_out", "sent_bytes", "sent_packets"),
    )
)
_LIMITS = ("REKEY_BYTES", "REKEY_PACKETS", "REKEY_BYTES_OVERFLOW_MAX", "REKEY_PACKETS_OVERFLOW_MAX")
_METHODS = {
    "read_message": ["self"],
    "read_all": ["self", "n", "check_rekey"],
    "send_message": ["self", "data"],
    "write_all": ["self", "out"],
    "start_handshake": ["self", "timeout"],
    "handshake_timed_out": ["self"],
    "need_rekey": ["self"],
    "_build_packet": ["self", "payload"],
    "_inc_iv_counter": ["self", "iv"],
    "_check_keepalive": ["self"],
    "_trigger_rekey": ["self"],
    "_log": ["self", "level", "msg"],
}
_MENTIONED = frozenset(
    (
        *("struct", "unpack", "pack", "util", "format_binary", "constant_time_bytes_eq", "compute_hmac"),
        *("SSHException", "DEBUG", "MSG_NAMES", "Message", "byte_ord", "xffffffff", "seqno", "format", "len"),
        *(
            "update",
            "decrypt",
            "encrypt",
            "asbytes",
            "acquire",
            "release",
            "_initial_kex_done",
            "time",
            "send",
        ),
        *("first_arg", "errno", "EAGAIN", "ProxyCommandFailure", "Exception", "EOFError"),
        *("socket", "timeout", "error"),
    )
)


def is_supported(packetizer: Any = Packetizer) -> bool:
    """Whether this is the `Packetizer` that we know. Any thread."""
    methods: dict[str, Any] = {name: getattr(packetizer, name, None) for name in _METHODS}
    if not all(inspect.isfunction(method) for method in methods.values()):
        return False
    if any(list(inspect.signature(method).parameters) != _METHODS[name] for name, method in methods.items()):
        return False
    known = _STATE | _METHODS.keys() | _MENTIONED | set(_LIMITS)
    replaced = (methods["read_message"], methods["write_all"], methods["send_message"])
    return (
        all(set(method.__code__.co_names) <= known for method in replaced)
        and vars(packetizer(None)).keys() >= _STATE
        and all(hasattr(packetizer, name) for name in _LIMITS)
    )
