"""The known_hosts reader and its edits, with OpenSSH's own tools as the judge of what matches."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runicorn_remote.errors import InvalidValue
from runicorn_remote.ssh.known_hosts import HostKey, KnownHostsText
from runicorn_remote.ssh.known_hosts_edit import accepted, listed, removed
from runicorn_remote.ssh.known_hosts_match import hosts_match, known_hosts_name

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's ssh-keygen")


def ed25519(number: int) -> HostKey:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes([number]) * 32
    return HostKey("ssh-ed25519", blob)


@functools.cache
def rsa_key() -> HostKey:
    return openssh_key(rsa.generate_private_key(65537, 2048).public_key())


@functools.cache
def ecdsa_key() -> HostKey:
    return openssh_key(ec.generate_private_key(ec.SECP256R1()).public_key())


def openssh_key(public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> HostKey:
    key_type, key_base64 = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split()
    return HostKey.of(key_type, key_base64)


A, B, C = ed25519(1), ed25519(2), ed25519(3)
ADDRESS = "192.168.1.61"
HASHED_ADDRESS = "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg="


def found_by_ssh_keygen(path: Path, name: str) -> list[int]:
    """Numbers of the lines that OpenSSH takes to be about `name`, with a key it can read."""
    done = subprocess.run(
        ["ssh-keygen", "-l", "-F", name, "-f", str(path)], capture_output=True, timeout=20, check=False
    )
    return [int(number) for number in re.findall(rb"^# Host .* found: line (\d+)", done.stdout, re.M)]


def found_by_us(text: str, name: str) -> list[int]:
    lines = KnownHostsText(text).lines
    return [number for number, line in enumerate(lines, 1) if line.entry and line.entry.matches(name)]


# --- What matches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "host", "port", "expected"),
    [
        ("gpu1", "gpu1", 22, True),
        ("gpu1", "GPU1", 22, True),
        ("GPU1.Lab", "gpu1.lab", 22, True),
        ("gpu1", "gpu10", 22, False),
        ("gpu1", "gpu1", 2222, False),
        ("[gpu1]:2222", "gpu1", 2222, True),
        ("[gpu1]:2222", "gpu1", 22, False),
        ("[gpu1]:2222", "gpu1", 222, False),
        ("a,gpu1,b", "gpu1", 22, True),
        ("*.lab", "gpu1.lab", 22, True),
        ("*.lab", "lab", 22, False),
        ("*.lab", "gpu1.lab", 2222, False),
        ("[*.lab]:*", "gpu1.lab", 2222, True),
        ("*", "gpu1", 2222, True),
        ("gpu?", "gpu1", 22, True),
        ("gpu?", "gpu", 22, False),
        ("gpu?", "gpu10", 22, False),
        ("g*u*1", "gpugpu1", 22, True),
        ("*.lab,!bad.lab", "good.lab", 22, True),
        ("*.lab,!bad.lab", "bad.lab", 22, False),
        ("!bad.lab,*.lab", "BAD.lab", 22, False),
        ("!bad.lab", "good.lab", 22, False),
        ("[12]", "1", 22, False),
        ("fe80::1%eth0", "fe80::1%eth0", 22, True),
        ("::1", "::1", 22, True),
        ("[::1]:2222", "::1", 2222, True),
        ("2001:DB8::1", "2001:db8::1", 22, True),
        # Only ASCII letters have two cases: a Kelvin sign is no k.
        ("gpu\u212a", "gpuk", 22, False),
        ("a" * 1023 + ",gpu1", "gpu1", 22, False),
    ],
)
def test_patterns(hosts: str, host: str, port: int, expected: bool) -> None:
    assert bool(KnownHostsText(f"{hosts} {A}\n").lookup(host, port).trusted) is expected


def test_white_space_and_line_ends() -> None:
    for line in (f"gpu1\t{A.type}  {A.base64}\r\n", f" \tgpu1 {A}\r\n", f"gpu1 {A}\tc\r\n", f"gpu1 {A}"):
        assert KnownHostsText(f"# c\r\n{line}").lookup("gpu1", 22).trusted == (A,), line


def test_many_stars_take_no_exponential_time() -> None:
    assert not hosts_match("a" * 250, "*a" * 100 + "b")


@needs_ssh_keygen
@pytest.mark.parametrize(("host", "port"), [("GPU1.lab", 22), ("gpu1.lab", 2222), ("::1", 22), ("::1", 2222)])
def test_a_name_that_openssh_hashed_is_found(tmp_path: Path, host: str, port: int) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"other {B}\n{known_hosts_name(host, port)} {A}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], capture_output=True, timeout=20, check=True)
    text = path.read_text()
    assert text.startswith("|1|")
    assert host not in text
    document = KnownHostsText(text)
    for spelling in (host, host.upper(), host.lower()):
        assert document.lookup(spelling, port).trusted == (A,)
    assert document.lookup(host, port + 1).trusted == ()
    assert document.lookup("elsewhere", port).trusted == ()


@pytest.mark.parametrize(
    "hosts",
    [
        "|1|",
        "|1||",
        "|1|x|y",
        "|2|dKCth8MTiAHuoTvKyNJRrsiRLps=|IiJyPC7aiIUbkezTlaFER0TkRjM=",
        "|1|AAAA|IiJyPC7aiIUbkezTlaFER0TkRjM=",
        "|1|dKCth8MTiAHuoTvKyNJRrsiRLps=|IiJyPC7aiIUbkezTlaFER0TkRjM=,gpu1",
        "|1|dKCth8MTiAHuoTvKyNJRrsiRLp\u00e9=|x",
        f"{HASHED_ADDRESS},gpu1",
        f"{HASHED_ADDRESS}x",
        HASHED_ADDRESS[:-1],
        "|",
    ],
)
def test_a_broken_hash_matches_nothing(hosts: str) -> None:
    text = f"{hosts} {A}\n{ADDRESS},gpu1 {B}\n"
    for host in ("gpu1", ADDRESS):
        assert KnownHostsText(text).lookup(host, 22).trusted == (B,)


# Mostly from a small stock, so that matches are frequent.
stock = ["a", "A", "ab", "a.b", "[a]:2", "[a.b]:2", "a.ab"]
names = st.sampled_from(stock) | st.text("abA.:[]2", min_size=1, max_size=6)
patterns = st.sampled_from([*stock, "*", "a*", "*.b", "[*]:2", "?", "a?b"]) | st.text(
    "abA.*?:[]2", max_size=6
)
host_lists = st.lists(
    st.tuples(st.sampled_from(["", "", "!"]), patterns).map("".join), min_size=1, max_size=4
)
spaces = st.sampled_from([" ", "\t", "  ", " \t "])


@st.composite
def known_hosts_lines(draw: st.DrawFn) -> str:
    """Lines of every kind that the format has, good and broken."""
    key = str(draw(st.sampled_from([A, B, rsa_key(), ecdsa_key()])))
    marker = draw(
        st.sampled_from(
            ["", "", "", "@revoked ", "@cert-authority ", "@revoked  \t", "@other ", "@revoked @revoked "]
        )
    )
    hosts = ",".join(draw(host_lists)) or "a"
    key_type, data = key.split(" ")
    words = draw(
        st.sampled_from(
            [f"{key_type}{draw(spaces)}{data}"] * 6
            + [
                key_type,
                "",
                f"{key_type} {data[:-4]}",
                f"{key_type} {data}x",
                f"{key_type} {data.rstrip('=')}=",
                f"ssh-dss {data}",
                f"nonsense {data}",
                f"#{key_type} {data}",
                "1024 35 1234567",
                f"{key_type} =",
            ]
        )
    )
    indent = draw(st.sampled_from(["", "", " ", "\t ", "#"]))
    comment = draw(st.sampled_from(["", "", " a comment", "\t# b", " "]))
    return f"{indent}{marker}{hosts}{draw(spaces)}{words}{comment}"


@needs_ssh_keygen
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(known_hosts_lines(), min_size=1, max_size=12),
    wanted=st.lists(names, min_size=1, max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_the_same_lines_match_as_for_openssh(
    tmp_path: Path, lines: list[str], wanted: list[str], end: str, last: bool
) -> None:
    text = end.join(lines) + (end if last else "")
    path = tmp_path / "known_hosts"
    path.write_bytes(text.encode())
    for name in wanted:
        assert found_by_us(text, name) == found_by_ssh_keygen(path, name), name


@needs_ssh_keygen
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hosts=st.lists(st.text("abc.2:[]", min_size=1, max_size=6), min_size=1, max_size=6), other=names)
def test_the_same_hashed_lines_match_as_for_openssh(tmp_path: Path, hosts: list[str], other: str) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{host} {A}\n" for host in hosts))
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], capture_output=True, timeout=20, check=True)
    text = path.read_text()
    # ssh lowers a name before it hashes it; `ssh-keygen -F` leaves that to its caller.
    for name in {*hosts, other.lower()}:
        assert found_by_us(text, name) == found_by_ssh_keygen(path, name), name


# --- Keys -------------------------------------------------------------------------------------


@needs_ssh_keygen
def test_fingerprints_are_those_of_openssh(tmp_path: Path) -> None:
    for key in (A, rsa_key(), ecdsa_key()):
        path = tmp_path / "key.pub"
        path.write_text(f"{key}\n")
        done = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[1] == key.fingerprint_sha256


@pytest.mark.parametrize(
    ("key_type", "data", "reason"),
    [
        ("ssh-ed25519", "***", "not valid base64"),
        ("ssh-ed25519", A.base64[:-3], "not valid base64"),
        ("ssh-ed25519", "A" + A.base64, "not valid base64"),
        ("ssh-ed25519", "\u00e9", "not valid base64"),
        ("ssh-ed25519", "AB==", "not valid base64"),
        ("ssh-ed25519", "", "does not hold a key"),
        ("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5", "does not hold a key"),
        ("ssh-ed25519", A.base64[:40], "does not hold a key"),
        ("ssh-ed25519", "AAAA", "does not hold a key"),
        ("ssh-rsa", A.base64, "another type"),
        ("ssh-\ud800", A.base64, "another type"),
    ],
)
def test_what_is_no_key(key_type: str, data: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        HostKey.of(key_type, data)


# --- Verdicts ---------------------------------------------------------------------------------


def test_several_keys_of_a_host_are_all_trusted_in_file_order() -> None:
    document = KnownHostsText(f"gpu1 {A}\n*,!x {rsa_key()}\nother {C}\ngpu1 {B}\n")
    entries = document.lookup("gpu1", 22)
    assert entries.trusted == (A, rsa_key(), B)
    assert entries.stored_types == ("ssh-ed25519", "ssh-rsa")
    assert [entries.judge(key).kind for key in (A, B, rsa_key())] == ["trusted"] * 3


def test_a_key_of_a_host_nobody_knows() -> None:
    verdict = KnownHostsText(f"other {A}\n").lookup("gpu1", 22).judge(A)
    assert (verdict.kind, verdict.expected) == ("unknown", None)


def test_a_changed_key_names_the_stored_one_of_its_type() -> None:
    entries = KnownHostsText(f"gpu1 {rsa_key()}\ngpu1 {A}\ngpu1 {B}\n").lookup("gpu1", 22)
    verdict = entries.judge(C)
    assert (verdict.kind, verdict.expected) == ("changed", A)


def test_a_new_type_beside_a_stored_one_is_a_change() -> None:
    entries = KnownHostsText(f"gpu1 {A}\n").lookup("gpu1", 22)
    verdict = entries.judge(ecdsa_key())
    assert (verdict.kind, verdict.expected) == ("changed", A)


def test_revoked_wins_over_trusted() -> None:
    entries = KnownHostsText(f"gpu1 {A}\ngpu1 {rsa_key()}\n@revoked * {A}\n").lookup("gpu1", 22)
    assert entries.judge(A).kind == "revoked"
    assert entries.judge(rsa_key()).kind == "trusted"
    assert entries.stored_types == ("ssh-rsa",)


@pytest.mark.parametrize("marker", ["@revoked ", "@revoked\t", "  @revoked \t"])
def test_a_revoked_key_counts_for_the_hosts_of_its_line_only(marker: str) -> None:
    document = KnownHostsText(f"{marker}*.lab {A}\n")
    assert document.lookup("gpu1.lab", 22).judge(A).kind == "revoked"
    assert document.lookup("gpu1.lab", 22).judge(B).kind == "unknown"
    assert document.lookup("gpu1.org", 22).judge(A).kind == "unknown"


def test_a_certificate_authority_makes_no_plain_key_trusted() -> None:
    entries = KnownHostsText(f"@cert-authority * {A}\n").lookup("gpu1", 22)
    assert entries.authorities == (A,)
    assert entries.judge(A).kind == "unknown"
    assert entries.stored_types == ()


def test_one_bad_line_spoils_nothing() -> None:
    bad = f"\x00\n@what gpu1 {B}\ngpu1\ngpu1 ssh-ed25519\ngpu1 ssh-rsa {A.base64}\n"
    bad += f"\udcff\udcfe {C}\n @revoked\n"
    assert KnownHostsText(f"{bad}gpu1 {A}\n{bad}").lookup("gpu1", 22).trusted == (A,)


# --- Accepting a key --------------------------------------------------------------------------


def accept(text: str, key: HostKey, host: str = "gpu1", port: int = 22) -> str:
    return accepted(KnownHostsText(text), host, port, key)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"gpu1 {B}\n"),
        ("# first", f"# first\ngpu1 {B}\n"),
        (f"gpu1 {A}\n", f"gpu1 {B}\n"),
        (f"gpu1 {B}", f"gpu1 {B}"),
        (f"  GPU1\t{A.type}  {A.base64} since 2019\r\n", f"  GPU1\t{B.type}  {B.base64} since 2019\r\n"),
        (f"a,gpu1,b {A} c\n", f"a,b {A} c\ngpu1 {B}\n"),
        (f"gpu1,gpu1 {A}\n", f"gpu1,gpu1 {B}\n"),
        (f"a,gpu1 {A}\nx {C}\ngpu1 {A}\n", f"a {A}\nx {C}\ngpu1 {B}\n"),
        (f"gpu1 {A}\ngpu1 {C}\n", f"gpu1 {B}\n"),
        (f"gpu1 {A}\na,gpu1 {B}\n", f"a,gpu1 {B}\n"),
        (f"[gpu1]:2222 {A}\n", f"[gpu1]:2222 {A}\ngpu1 {B}\n"),
        (f"gpu* {A}\n", f"gpu* {A}\ngpu1 {B}\n"),
        (f"gpu* {B}\n", f"gpu* {B}\ngpu1 {B}\n"),
        (f"@revoked gpu1 {A}\n", f"@revoked gpu1 {A}\ngpu1 {B}\n"),
        (f"@cert-authority gpu1 {B}\n", f"@cert-authority gpu1 {B}\ngpu1 {B}\n"),
        (f"gpu1,!gpu1 {A}\n", f"gpu1,!gpu1 {A}\ngpu1 {B}\n"),
        (f"gpu1,!x {A}\n", f"gpu1,!x {B}\n"),
        ("gpu1 ssh-ed25519 broken\n", f"gpu1 ssh-ed25519 broken\ngpu1 {B}\n"),
    ],
)
def test_accepting_changes_this_hosts_key_of_this_type_and_nothing_else(before: str, after: str) -> None:
    assert accept(before, B) == after
    assert KnownHostsText(after).lookup("gpu1", 22).judge(B).kind == "trusted"


def test_accepting_keeps_a_hash_and_replaces_its_key() -> None:
    before = f"# c\n{HASHED_ADDRESS} {A} note\n"
    assert accept(before, B, host=ADDRESS) == f"# c\n{HASHED_ADDRESS} {B} note\n"


def test_accepting_a_new_type_leaves_the_old_key() -> None:
    text = accept(f"gpu1 {A}\n", ecdsa_key())
    assert text == f"gpu1 {A}\ngpu1 {ecdsa_key()}\n"
    entries = KnownHostsText(text).lookup("gpu1", 22)
    assert entries.judge(A).kind == entries.judge(ecdsa_key()).kind == "trusted"


def test_a_host_on_another_port_and_an_address() -> None:
    assert accept("", A, port=2222) == f"[gpu1]:2222 {A}\n"
    assert accept("", A, host="fe80::1%eth0", port=22) == f"fe80::1%eth0 {A}\n"
    assert accept("", A, host="::1", port=2222) == f"[::1]:2222 {A}\n"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a\tb",
        "a\nb",
        "a,b",
        "*",
        "a?",
        "!a",
        "@revoked",
        "#a",
        "|1|x|y",
        "[a]",
        "a\0",
        "\ud800",
        "\x7f",
        "ü",
        "a" * 256,
    ],
)
def test_only_exactly_one_host_can_be_accepted(host: str) -> None:
    with pytest.raises(InvalidValue, match=r"^Invalid host: "):
        accept("", A, host=host)


def test_a_revoked_key_cannot_be_accepted() -> None:
    with pytest.raises(InvalidValue, match="revoked") as caught:
        accept(f"@revoked gpu* {A}\n", A)
    assert caught.value.code == "HOST_KEY_REVOKED"


junk = (
    st.text(st.characters(exclude_characters="\n"), max_size=20)
    | known_hosts_lines()
    | st.just(f"gpu1,a {A}")
)
texts = st.tuples(st.lists(junk, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda parts: parts[1].join(parts[0]) + parts[1] * parts[2]
)


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(["a", "gpu1", "ab.a"]), st.sampled_from([22, 2]), st.sampled_from([A, B, C]))
def test_whatever_the_file_holds_an_accepted_key_is_trusted_and_a_removed_one_is_not_listed(
    text: str, host: str, port: int, key: HostKey
) -> None:
    before = KnownHostsText(text)
    assert "".join(line.raw for line in before.lines) == text
    if key in before.lookup(host, port).revoked:
        return
    after = KnownHostsText(accepted(before, host, port, key))
    assert after.lookup(host, port).judge(key).kind == "trusted"
    assert accepted(after, host, port, key) == after.text
    assert after.lookup("bystander", 22) == before.lookup("bystander", 22)
    assert after.lookup("b", port) == before.lookup("b", port)
    # The last line may have gained its newline.
    assert [raw.rstrip("\n") for raw in other_lines(after)] == [
        raw.rstrip("\n") for raw in other_lines(before)
    ]

    gone = KnownHostsText(removed(after, host, port, key.type))
    assert (host, port, key.type) not in {
        (item.host.lower(), item.port, item.key.type) for item in listed(gone)
    }
    assert gone.lookup("bystander", 22) == before.lookup("bystander", 22)


# --- Listing and removing ---------------------------------------------------------------------


def test_each_name_of_each_plain_line_is_listed() -> None:
    document = KnownHostsText(
        f"# c\ngpu1,[gpu1]:2222,!x,*.lab {A}\n{HASHED_ADDRESS} {B}\n"
        f"[::1]:22 {B}\n[*.lab]:2222 {rsa_key()} c\n"
        f"@revoked gpu1 {A}\n@cert-authority gpu1 {A}\nbroken ssh-rsa\n"
    )
    assert [(item.host, item.port, item.known_hosts_host, item.key) for item in listed(document)] == [
        ("gpu1", 22, "gpu1", A),
        ("gpu1", 2222, "[gpu1]:2222", A),
        ("*.lab", 22, "*.lab", A),
        (HASHED_ADDRESS, 22, HASHED_ADDRESS, B),
        ("[::1]:22", 22, "[::1]:22", B),
        ("*.lab", 2222, "[*.lab]:2222", rsa_key()),
    ]


@pytest.mark.parametrize(
    ("before", "host", "port", "after"),
    [
        (f"gpu1 {A}\n", "GPU1", 22, ""),
        (f"gpu1 {A}", "gpu2", 22, f"gpu1 {A}"),
        (f"gpu1 {A}\n", "gpu1", 2222, f"gpu1 {A}\n"),
        (f"[gpu1]:2222 {A}\ngpu1 {A}\n", "gpu1", 2222, f"gpu1 {A}\n"),
        (f"gpu1 {rsa_key()}\n", "gpu1", 22, f"gpu1 {rsa_key()}\n"),
        (f"a,gpu1\t{A} c\r\n", "gpu1", 22, f"a\t{A} c\r\n"),
        (f"gpu1 {A}\n#\ngpu1 {B}\n", "gpu1", 22, "#\n"),
        (f"gpu1,!x {A}\n", "gpu1", 22, ""),
        (f"*.lab,!x.lab {A}\n", "!x.lab", 22, f"*.lab,!x.lab {A}\n"),
        (f"gpu*,a {A}\n", "gpu1", 22, f"gpu*,a {A}\n"),
        (f"gpu*,a {A}\n", "gpu*", 22, f"a {A}\n"),
        (f"{HASHED_ADDRESS} {A}\n", ADDRESS, 22, ""),
        (f"{HASHED_ADDRESS} {A}\n", HASHED_ADDRESS, 22, ""),
        (f"{HASHED_ADDRESS} {A}\n", HASHED_ADDRESS.lower(), 22, f"{HASHED_ADDRESS} {A}\n"),
        (f"@revoked gpu1 {A}\n", "gpu1", 22, f"@revoked gpu1 {A}\n"),
        (f"@cert-authority gpu1 {A}\n", "gpu1", 22, f"@cert-authority gpu1 {A}\n"),
        ("gpu1 ssh-ed25519 broken\n", "gpu1", 22, "gpu1 ssh-ed25519 broken\n"),
        (f"gpu1 {A}\n", "\ud800", 22, f"gpu1 {A}\n"),
    ],
)
def test_removing_takes_one_hosts_keys_of_one_type(before: str, host: str, port: int, after: str) -> None:
    assert removed(KnownHostsText(before), host, port, "ssh-ed25519") == after


@settings(max_examples=100, deadline=None)
@given(texts)
def test_everything_listed_can_be_removed(text: str) -> None:
    document = KnownHostsText(text)
    while items := listed(document):
        item = items[0]
        document = KnownHostsText(removed(document, item.host, item.port, item.key.type))
        assert len(listed(document)) < len(items)
    assert other_lines(document) == other_lines(KnownHostsText(text))


def other_lines(document: KnownHostsText) -> list[str]:
    """Comments, marked lines and what is broken: lines that no edit may touch."""
    return [line.raw for line in document.lines if line.entry is None or line.entry.marker]


def test_a_name_that_is_not_utf8_can_be_listed_and_removed() -> None:
    document = KnownHostsText(f"gpu\udcff {A}\n")
    (item,) = listed(document)
    assert item.host == "gpu\\xff"
    assert removed(document, item.host, item.port, item.key.type) == ""


@needs_ssh_keygen
def test_removing_leaves_what_openssh_leaves(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    text = f"# mine\n\ngpu1 {A}\n@cert-authority gpu1 {C}\n[gpu1]:2222 {A}\ngpu2 {A}\n"
    path.write_text(text)
    subprocess.run(["ssh-keygen", "-R", "gpu1", "-f", str(path)], capture_output=True, timeout=20, check=True)
    assert removed(KnownHostsText(text), "gpu1", 22, "ssh-ed25519") == path.read_text()
