"""Who logs in where, and with what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runicorn_remote.errors import InvalidConnectionId, InvalidValue
from runicorn_remote.ssh.target import Credentials, Target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("me@gpu1:22", Target("gpu1", 22, "me")),
        ("me@gpu-1.lab.example.:2222", Target("gpu-1.lab.example.", 2222, "me")),
        ("me@corp.example@gpu1:22", Target("gpu1", 22, "me@corp.example")),
        ("DOMAIN\\me@gpu1:22", Target("gpu1", 22, "DOMAIN\\me")),
        ("me@10.0.0.1:1", Target("10.0.0.1", 1, "me")),
        ("me@[::1]:22", Target("::1", 22, "me")),
        ("me@::1:22", Target("::1", 22, "me")),
        ("me@[fe80::1%eth0]:22", Target("fe80::1%eth0", 22, "me")),
        ("é@gpu_1:65535", Target("gpu_1", 65535, "é")),
    ],
)
def test_reading_an_id(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert Target.parse(target.connection_id) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu1",
        "me@gpu1",
        "gpu1:22",
        "me@gpu1:",
        "me@gpu1:0",
        "me@gpu1:65536",
        "me@gpu1:022222",
        "me@gpu1:-1",
        "me@gpu1:+1",
        "me@gpu1: 22",
        "me@gpu1:٢٢",
        "@gpu1:22",
        "me@:22",
        "me@[]:22",
        "me@gpu 1:22",
        "me@-gpu:22",
        "me@gpu1-:22",
        "-me@gpu1:22",
        "m e@gpu1:22",
        "m\ne@gpu1:22",
        "m\ud800e@gpu1:22",
        "me@gpu1\n:22",
        "me@gpü1:22",
        "me@gpu1/x:22",
        "me@gpu1$(x):22",
        "me@" + "a" * 256 + ":22",
        "x" * 100_000,
    ],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidConnectionId) as caught:
        Target.parse(text)
    said = str(caught.value)
    assert said.startswith("Invalid connection_id format: ")
    assert said.isprintable()
    assert len(said) < 150


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        target = Target.parse(text)
    except InvalidConnectionId:
        return
    assert Target.parse(target.connection_id) == target


def test_brackets_come_off_and_go_on() -> None:
    target = Target.of("[::1]", 22, "me")
    assert (target.host, target.bracketed_host, str(target)) == ("::1", "[::1]", "me@[::1]:22")
    assert Target.of("gpu1", 22, "me").bracketed_host == "gpu1"


@pytest.mark.parametrize(
    ("host", "port", "username", "about"),
    [
        ("", 22, "me", "host"),
        ("a,b", 22, "me", "host"),
        ("gpu1", 0, "me", "port"),
        ("gpu1", 65536, "me", "port"),
        ("gpu1", 22, "", "username"),
        ("gpu1", 22, "-oProxyCommand=x", "username"),
        ("gpu1", 22, "a\0b", "username"),
    ],
)
def test_each_part_is_checked(host: str, port: int, username: str, about: str) -> None:
    with pytest.raises(InvalidValue, match=f"^Invalid {about}: "):
        Target.of(host, port, username)


def test_the_same_credentials_are_the_same_identity() -> None:
    given_credentials = {"password": "p", "private_key": "k", "private_key_path": "~/k", "passphrase": "s"}
    assert Credentials(**given_credentials).identity == Credentials(**given_credentials).identity


def test_every_difference_is_another_identity() -> None:
    identities = [
        Credentials(**values).identity
        for values in (
            {},
            {"use_agent": False},
            {"password": "a"},
            {"password": "b"},
            {"private_key": "a"},
            {"private_key_path": "a"},
            {"passphrase": "a"},
            {"password": "a", "passphrase": "a"},
            {"password": "aa"},
            {"password": "a", "private_key": "a"},
            {"password": "", "private_key": "a"},
            {"password": "\ud800"},
        )
    ]
    assert len(set(identities)) == len(identities)


def test_nothing_of_a_secret_is_shown() -> None:
    secret = "c4n4ry"
    credentials = Credentials(password=secret, private_key=secret, passphrase=secret)
    for text in (repr(credentials), str(credentials), f"{credentials}", credentials.identity):
        assert secret not in text


def test_what_counts_as_given() -> None:
    assert not Credentials().explicit
    assert not Credentials(passphrase="s").explicit
    assert all(
        Credentials(**{name: "x"}).explicit for name in ("password", "private_key", "private_key_path")
    )
