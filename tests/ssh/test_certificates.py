"""Certificates of users and of hosts, made by ssh-keygen and judged by, or beside, a real sshd."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runicorn_remote.errors import (
    AuthenticationFailed,
    HostKeyConfirmationRequired,
    HostKeyRevoked,
    PassphraseRequired,
)
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host_certificates import NotAccepted, check_host_certificate
from runicorn_remote.ssh.known_hosts import HostEntries, HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import write_known_hosts
from tests.ssh.key_kit import add_to_agent, fails, log_in, new_key, offered, public

pytestmark = pytest.mark.sshd

KINDS = ("ed25519", "ecdsa", "rsa")


def certify(authority: Path, key: Path, *options: str) -> Path:
    """-> the certificate, `KEY-cert.pub`."""
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", *options, key.with_name(key.name + ".pub")],
        check=True,
        timeout=30,
        capture_output=True,
    )
    return key.with_name(key.name + "-cert.pub")


# --- of users


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[SshServer]:
    """Lets in whoever has a certificate for its user."""
    options = {"TrustedUserCAKeys": f"{authority}.pub", "LogLevel": "VERBOSE"}
    with SshServer(tmp_path_factory.mktemp("sshd"), options=options) as server:
        yield server


@pytest.fixture(params=KINDS)
def key(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return new_key(tmp_path / "key", kind=request.param)


def configure(home: Path, *lines: str) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "config").write_text("\n".join(("Host *", *lines)) + "\n")


def test_beside_a_key_that_is_named(connector: Connector, target: Target, authority: Path, key: Path) -> None:
    credentials = Credentials(private_key_path=str(key), use_agent=False)
    fails(connector, target, credentials)
    certificate = certify(authority, key, "-n", "somebody-else")
    fails(connector, target, credentials)
    certificate.unlink()
    certify(authority, key, "-n", target.username)
    log_in(connector, target, credentials)


def test_named_by_ssh_config(
    connector: Connector, target: Target, authority: Path, key: Path, private_home: Path
) -> None:
    certificate = certify(authority, key, "-n", target.username).rename(key.with_name("elsewhere.pub"))
    configure(private_home, f"IdentityFile {key}", f"CertificateFile {certificate}")
    log_in(connector, target, Credentials(use_agent=False))
    # Also with a key that the request brings as a text.
    log_in(connector, target, Credentials(private_key=key.read_text(), use_agent=False))


def test_for_a_key_in_the_agent(
    connector: Connector, target: Target, authority: Path, key: Path, private_home: Path, agent: str
) -> None:
    add_to_agent(agent, key)
    fails(connector, target, Credentials())
    certificate = certify(authority, key, "-n", target.username).rename(key.with_name("elsewhere.pub"))
    key.unlink()
    configure(private_home, f"CertificateFile {certificate}")
    log_in(connector, target, Credentials())


def test_in_the_agent(connector: Connector, target: Target, authority: Path, key: Path, agent: str) -> None:
    certify(authority, key, "-n", target.username)
    add_to_agent(agent, key)  # takes both
    log_in(connector, target, Credentials())


# --- which keys are tried, of many


@pytest.fixture
def crowded(agent: str, tmp_path: Path, sshd: SshServer) -> str:
    """An agent with more keys than sshd lets us try, the right one last."""
    strangers = [new_key(tmp_path / f"stranger{number}") for number in range(7)]
    add_to_agent(agent, *strangers, sshd.client_key)
    return agent


def test_more_keys_than_sshd_takes(
    connector: Connector, target: Target, crowded: str, sshd: SshServer, private_home: Path
) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        connector(target, Credentials())
    assert "IdentitiesOnly" in (caught.value.hint or "")
    # Named in ssh_config it goes first; the .pub is enough for a key of the agent.
    configure(private_home, f"IdentityFile {sshd.client_key}.pub")
    before = sshd.log()
    log_in(connector, target, Credentials())
    assert len(set(offered(sshd, before))) == 1


def test_no_others_than_those_named(
    connector: Connector, target: Target, crowded: str, sshd: SshServer, private_home: Path, tmp_path: Path
) -> None:
    configure(private_home, f"IdentityFile {tmp_path}/stranger3", "IdentitiesOnly yes")
    before = sshd.log()
    fails(connector, target, Credentials())
    assert sshd.log()[len(before) :].count("Failed publickey") <= 1
    assert str(sshd.client_key) not in sshd.log()[len(before) :]


def test_another_agent(
    connector: Connector,
    target: Target,
    agent: str,
    sshd: SshServer,
    private_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_to_agent(agent, sshd.client_key)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "nothing to log in" in fails(connector, target, Credentials())
    configure(private_home, f"IdentityAgent {agent}")
    log_in(connector, target, Credentials())
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    (private_home / ".ssh" / "config").write_text("IdentityAgent none\n")
    assert "nothing to log in" in fails(connector, target, Credentials())


def test_a_configured_key_that_is_encrypted(
    connector: Connector, target: Target, authority: Path, tmp_path: Path, private_home: Path
) -> None:
    key = new_key(tmp_path / "key", "open sesame")
    certify(authority, key, "-n", target.username)
    configure(private_home, f"IdentityFile {key}")
    with pytest.raises(PassphraseRequired, match=r"ssh_config is encrypted"):
        connector(target, Credentials())
    log_in(connector, target, Credentials(passphrase="open sesame", use_agent=False))


# --- of hosts


@pytest.fixture(params=KINDS)
def certified(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Call it with options of ssh-keygen: a host whose key the authority `tmp_path / "ca"` has signed so."""
    kind = request.param
    new_key(tmp_path / "ca", kind=kind)
    directory = tmp_path / "host"
    directory.mkdir()
    certificate = directory / f"host_key_{kind}-cert.pub"
    server = SshServer(directory, host_key_types=[kind], options={"HostCertificate": str(certificate)})

    def start(*options: str, authority: Path = tmp_path / "ca") -> Target:
        made = certify(authority, directory / f"host_key_{kind}", *options)
        # What ends in .pub is no host key to the server of the tests.
        assert made == certificate
        server.start()
        return Target(server.host, server.port, server.username)

    yield start
    server.stop()


def only(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("certified", [kind], indirect=True)


def trust_authority(known_hosts: KnownHostsFile, authority: Path, *more: str) -> None:
    write_known_hosts(known_hosts, f"@cert-authority 127.0.0.* {public(authority)}", *more)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(private_key_path=str(tmp_path / "host" / "client_key"), use_agent=False)


HOST = ("-h", "-n", "gpu1,127.0.0.1")


def test_a_host_that_an_authority_speaks_for(
    connector: Connector,
    certified: Callable[..., Target],
    known_hosts: KnownHostsFile,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    """Whatever its port, as with ssh; and nobody is asked about its key, nor is the key stored."""
    target = certified(*HOST)
    trust_authority(known_hosts, tmp_path / "ca")
    before = known_hosts.path.read_text()
    log_in(connector, target, credentials)
    assert known_hosts.path.read_text() == before


@only("ed25519")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-h", "-n", "gpu2"), "not for 127.0.0.1"),
        (("-h", "-n", "127.0.0.*"), "not for 127.0.0.1"),
        (("-h",), "not for 127.0.0.1"),
        ((*HOST, "-V", "20200101:20200201"), "no longer"),
        ((*HOST, "-V", "20900101:20900201"), "not valid yet"),
        ((*HOST, "-O", "critical:strange=1"), "critical options"),
    ],
)
def test_a_certificate_that_does_not_speak_for_the_host(
    connector: Connector,
    certified: Callable[..., Target],
    known_hosts: KnownHostsFile,
    credentials: Credentials,
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    """Then its plain key counts, as with ssh: asked about, or known."""
    target = certified(*options)
    trust_authority(known_hosts, tmp_path / "ca")
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        connector(target, credentials)
    assert said in (caught.value.hint or "")
    problem = caught.value.problem
    assert problem.public_key == public(tmp_path / "host" / "host_key_ed25519").rsplit(" ", 1)[0].strip()
    trust_authority(known_hosts, tmp_path / "ca", f"{problem.known_hosts_host} {problem.public_key}")
    log_in(connector, target, credentials)


@only("ed25519")
def test_an_authority_that_nobody_trusts(
    connector: Connector,
    certified: Callable[..., Target],
    known_hosts: KnownHostsFile,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    new_key(tmp_path / "other")
    target = certified(*HOST, authority=tmp_path / "other")
    trust_authority(known_hosts, tmp_path / "ca")
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        connector(target, credentials)
    assert "No @cert-authority" in (caught.value.hint or "")
    # Of another host, it says nothing about this one.
    write_known_hosts(known_hosts, f"@cert-authority gpu1 {public(tmp_path / 'other')}")
    with pytest.raises(HostKeyConfirmationRequired):
        connector(target, credentials)


@only("ed25519")
def test_what_is_revoked(
    connector: Connector,
    certified: Callable[..., Target],
    known_hosts: KnownHostsFile,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    target = certified(*HOST)
    for name in ("ca", "host/host_key_ed25519"):
        trust_authority(known_hosts, tmp_path / "ca", f"@revoked * {public(tmp_path / name)}")
        with pytest.raises(HostKeyRevoked):
            connector(target, credentials)


@only("rsa")
def test_an_authority_that_signs_with_sha1(
    connector: Connector,
    certified: Callable[..., Target],
    known_hosts: KnownHostsFile,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    target = certified(*HOST, "-t", "ssh-rsa")
    trust_authority(known_hosts, tmp_path / "ca")
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        connector(target, credentials)
    assert "SHA-1" in (caught.value.hint or "")


def read_certificate(path: Path) -> HostKey:
    """`HostKey.of` would not have it: a certificate is no plain key."""
    key_type, key_base64 = path.read_text().split()[:2]
    return HostKey(key_type, base64.b64decode(key_base64))


def test_what_certificates_do_not_say(tmp_path: Path) -> None:
    """Things that no sshd would serve, judged without one."""
    authority, key = new_key(tmp_path / "ca"), new_key(tmp_path / "key")
    shown, other = (HostKey.of(*public(path).split()[:2]) for path in (key, authority))
    entries = HostEntries(authorities=(other,))

    def judge(certificate: HostKey, key: HostKey = shown) -> None:
        check_host_certificate(certificate, key, "gpu1", entries, 0)

    with pytest.raises(NotAccepted, match="a user's"):
        judge(read_certificate(certify(authority, key, "-n", "gpu1")))
    certificate = read_certificate(certify(authority, key, "-h", "-n", "gpu1"))
    judge(certificate)
    short = new_key(tmp_path / "short", kind="rsa", bits=1024)
    by_short = read_certificate(certify(short, key, "-h", "-n", "gpu1"))
    trusting_short = HostEntries(authorities=(HostKey.of(*public(short).split()[:2]),))
    with pytest.raises(NotAccepted, match="short"):
        check_host_certificate(by_short, shown, "gpu1", trusting_short, 0)
    with pytest.raises(NotAccepted, match="another key"):
        judge(certificate, other)
    for at in range(0, len(certificate.blob), 7):
        forged = bytearray(certificate.blob)
        forged[at] ^= 1
        with pytest.raises(NotAccepted):
            judge(HostKey(certificate.type, bytes(forged)))
        with pytest.raises(NotAccepted):
            judge(HostKey(certificate.type, certificate.blob[:at]))
