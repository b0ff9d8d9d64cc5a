"""Accepting, listing and removing host keys, with everything the outside may send."""

from __future__ import annotations

from pathlib import Path

import pytest

from runicorn_remote.errors import HostKeyNotSeen, HostKeyProblem, InvalidValue, StateError
from runicorn_remote.services.known_hosts import KnownHosts
from runicorn_remote.services.seen_host_keys import REMEMBERED_FOR
from runicorn_remote.ssh.known_hosts import HostKey
from tests.fakes import AdvancingClock
from tests.ssh.test_known_hosts_file import ed25519

TYPE = "ssh-ed25519"
BASE64 = "AAAAC3NzaC1lZDI1NTE5AAAAIH0f/b3pvlK4ZYF0QaVeBEx1tvcxGGrlFoCAYwJdpKiy"
FINGERPRINT = "SHA256:ASrsX4O5NZhdepBPHyUnhHSI+VfYED+WkNJLWDYpdoI"
OTHER_TYPE_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAABAEAAAE="


@pytest.fixture
def clock() -> AdvancingClock:
    return AdvancingClock()


@pytest.fixture
def known_hosts(tmp_path: Path, clock: AdvancingClock) -> KnownHosts:
    """A handshake with `gpu1`, on either port, has shown the key."""
    known_hosts = KnownHosts(tmp_path / "known_hosts", clock)
    for port in (22, 2222):
        show(known_hosts, port=port)
    show(known_hosts, host="::1", port=2222)
    return known_hosts


def show(
    known_hosts: KnownHosts, *, key: str = f"{TYPE} {BASE64}", host: str = "gpu1", port: int = 22
) -> None:
    """A handshake shows `key`, and a person is asked."""
    shown = HostKey.of(*key.split())
    verdict = known_hosts.file.lookup(host, port).judge(shown)
    assert verdict.kind in ("unknown", "changed")
    known_hosts.seen.remember(
        HostKeyProblem(
            host,
            port,
            "",
            shown.type,
            shown.fingerprint_sha256,
            str(shown),
            verdict.kind,
            expected_public_key=str(verdict.expected) if verdict.expected else None,
        )
    )


def accept_key(known_hosts: KnownHosts, key: str) -> None:
    fingerprint = HostKey.of(*key.split()).fingerprint_sha256
    accept(known_hosts, key_type=key.split()[0], public_key=key, fingerprint_sha256=fingerprint)


def accept(known_hosts: KnownHosts, **changes: object) -> None:
    values: dict[str, object] = {
        "host": "gpu1",
        "port": 22,
        "key_type": TYPE,
        "public_key": f"{TYPE} {BASE64}",
        "fingerprint_sha256": FINGERPRINT,
    }
    known_hosts.accept(**{**values, **changes})  # type: ignore[arg-type]


def test_accepted_listed_removed(known_hosts: KnownHosts) -> None:
    accept(known_hosts, port=2222)
    assert known_hosts.file.path.read_text() == f"[gpu1]:2222 {TYPE} {BASE64}\n"
    assert known_hosts.list() == [
        {
            "host": "gpu1",
            "port": 2222,
            "known_hosts_host": "[gpu1]:2222",
            "key_type": TYPE,
            "key_base64": BASE64,
            "fingerprint_sha256": FINGERPRINT,
        }
    ]
    assert known_hosts.remove("gpu1", 2222, TYPE) is True
    assert known_hosts.remove("gpu1", 2222, TYPE) is False
    assert known_hosts.list() == []


def test_a_comment_behind_the_key_is_not_stored(known_hosts: KnownHosts) -> None:
    accept(known_hosts, public_key=f"  {TYPE}\t{BASE64} me@home ")
    assert known_hosts.file.path.read_text() == f"gpu1 {TYPE} {BASE64}\n"


def test_an_address_in_brackets(known_hosts: KnownHosts) -> None:
    accept(known_hosts, host="[::1]", port=2222)
    assert known_hosts.file.path.read_text() == f"[::1]:2222 {TYPE} {BASE64}\n"
    assert known_hosts.remove("[::1]", 2222, TYPE) is True


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"host": ""}, "Invalid host: it is empty"),
        ({"host": "gpu1 gpu2"}, "Invalid host: it has white space"),
        ({"host": "gpu1\u00a0"}, "Invalid host: it has white space"),
        ({"host": "gpu1\nevil ssh-rsa AAAA"}, "Invalid host: it has white space"),
        ({"host": "gpu1,gpu2"}, "Invalid host: it has a comma"),
        ({"host": "gpu\x07"}, "Invalid host: it has characters"),
        ({"host": "gpu\0"}, "Invalid host: it has characters"),
        ({"host": "gpu\ud800"}, "Invalid host: it has characters"),
        ({"host": "*"}, "Invalid host: it has one of"),
        ({"host": "@cert-authority"}, "Invalid host: it has one of"),
        ({"host": "#gpu1"}, "Invalid host: it has one of"),
        ({"host": "|1|a|b"}, "Invalid host: it has one of"),
        ({"host": "[gpu1]:22"}, "Invalid host: it has one of"),
        ({"host": "h" * 256}, "Invalid host: it is longer"),
        ({"key_type": ""}, "Invalid key_type: it is empty"),
        ({"key_type": "ssh ed25519"}, "Invalid key_type: it has white space"),
        ({"fingerprint_sha256": ""}, "Invalid fingerprint_sha256: it is empty"),
        ({"fingerprint_sha256": FINGERPRINT + "\n"}, "Invalid fingerprint_sha256: it has white space"),
        ({"public_key": ""}, "Invalid public_key: it is not a key type and base64"),
        ({"public_key": BASE64}, "Invalid public_key: it is not a key type and base64"),
        (
            {"public_key": f"{TYPE} {BASE64}\nevil {TYPE} {BASE64}"},
            "Invalid public_key: it has more than one line",
        ),
        ({"public_key": f"{TYPE} ****"}, "Invalid public_key: the key is not valid base64"),
        ({"public_key": f"{TYPE} {BASE64[:-2]}"}, "Invalid public_key: the key is not valid base64"),
        ({"public_key": f"{TYPE} {BASE64[:-4]}"}, "Invalid public_key: the base64 text does not hold a key"),
        ({"public_key": f"ssh-rsa {BASE64}"}, "Invalid public_key: the key is of another type"),
        ({"public_key": OTHER_TYPE_KEY}, "key_type does not match public_key"),
        ({"key_type": "ssh-rsa"}, "key_type does not match public_key"),
        ({"key_type": "ssh-\ud800"}, "key_type does not match public_key"),
        ({"fingerprint_sha256": "SHA256:" + "A" * 43}, "fingerprint_sha256 does not match public_key"),
        ({"fingerprint_sha256": FINGERPRINT.lower()}, "fingerprint_sha256 does not match public_key"),
    ],
)
def test_what_is_refused(known_hosts: KnownHosts, changes: dict[str, object], detail: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        accept(known_hosts, **changes)
    assert str(caught.value).startswith(detail)
    assert not known_hosts.file.path.exists()


@pytest.mark.parametrize(("host", "key_type"), [("", TYPE), ("gpu1", "")])
def test_nothing_to_remove_is_named(known_hosts: KnownHosts, host: str, key_type: str) -> None:
    with pytest.raises(InvalidValue, match="it is empty"):
        known_hosts.remove(host, 22, key_type)


# --- only what a handshake has shown


A, B, C = (str(ed25519(number)) for number in (1, 2, 3))


def test_a_key_that_nobody_has_shown(known_hosts: KnownHosts) -> None:
    for changes in ({"host": "gpu2"}, {"port": 23}, {"host": "gpu1."}):
        with pytest.raises(HostKeyNotSeen):
            accept(known_hosts, **changes)
    with pytest.raises(HostKeyNotSeen):
        accept_key(known_hosts, A)
    assert not known_hosts.file.path.exists()
    accept(known_hosts, host="GPU1")


def test_for_ten_minutes(known_hosts: KnownHosts, clock: AdvancingClock) -> None:
    clock.ahead = REMEMBERED_FOR - 5
    accept(known_hosts)
    clock.ahead = REMEMBERED_FOR + 5
    with pytest.raises(HostKeyNotSeen, match="10 minutes"):
        accept(known_hosts, port=2222)
    show(known_hosts, port=2222)
    accept(known_hosts, port=2222)


def test_two_pages_ask_about_the_same_key(known_hosts: KnownHosts) -> None:
    show(known_hosts)
    accept(known_hosts)
    accept(known_hosts)
    assert known_hosts.remove("gpu1", 22, TYPE)
    with pytest.raises(HostKeyNotSeen):
        accept(known_hosts)


def test_two_pages_are_shown_different_keys(known_hosts: KnownHosts) -> None:
    """Whoever says yes second was told that nothing is stored."""
    show(known_hosts, key=A)
    show(known_hosts, key=B)
    accept_key(known_hosts, A)
    with pytest.raises(HostKeyNotSeen, match="Another key has been accepted"):
        accept_key(known_hosts, B)
    assert [entry["key_base64"] for entry in known_hosts.list()] == [A.split()[1]]
    show(known_hosts, key=B)
    accept_key(known_hosts, B)
    assert [entry["key_base64"] for entry in known_hosts.list()] == [B.split()[1]]


def test_a_changed_key_replaces_the_one_the_person_was_shown(known_hosts: KnownHosts) -> None:
    known_hosts.file.path.write_text(f"gpu1 {A}\n")
    show(known_hosts, key=B)
    known_hosts.file.path.write_text(f"gpu1 {C}\n")
    with pytest.raises(HostKeyNotSeen):
        accept_key(known_hosts, B)
    known_hosts.file.path.write_text("")
    accept_key(known_hosts, B)


def test_a_trusted_key_stays_beside_others(known_hosts: KnownHosts) -> None:
    text = f"gpu1 {A}\ngpu1 {B}\n"
    known_hosts.file.path.write_text(text)
    accept_key(known_hosts, A)
    assert known_hosts.file.path.read_text() == text


def test_many_challenges_are_forgotten(known_hosts: KnownHosts) -> None:
    for port in range(1, 2001):
        known_hosts.seen.remember(HostKeyProblem("x", port, "", TYPE, "", A, "unknown"))
    assert len(known_hosts.seen._challenges) <= 1000
    with pytest.raises(HostKeyNotSeen):
        accept(known_hosts)


def test_a_file_that_cannot_be_read(known_hosts: KnownHosts) -> None:
    known_hosts.file.path.mkdir()
    with pytest.raises(StateError, match="not a regular file"):
        known_hosts.list()
    with pytest.raises(StateError, match="not a regular file"):
        accept(known_hosts)
