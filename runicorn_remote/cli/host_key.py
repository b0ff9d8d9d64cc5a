"""The question about a host key, as ssh asks it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runicorn_remote.cli.output import is_terminal, printable, say
from runicorn_remote.cli.target import shown_address

if TYPE_CHECKING:
    from runicorn_remote.client import HostKey

_ALARM = "WARNING: THE HOST'S IDENTIFICATION HAS CHANGED!"
_NAMES = {
    "ssh-ed25519": "ED25519",
    "ssh-rsa": "RSA",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
}


def algorithm(key_type: str) -> str:
    """As ssh calls it when it talks to people."""
    return _NAMES.get(key_type, key_type)


def confirms(key: HostKey) -> bool:
    """Whether the person at the terminal trusts this key; False where there is nobody to ask.

    An unknown key takes `yes` or its fingerprint, a changed one its fingerprint only.
    """
    asked = is_terminal(sys.stdin)
    if key.changed:
        _warn(key)
        return asked and _types_fingerprint(key)
    return asked and _says_yes(key)


def _says_yes(key: HostKey) -> bool:
    say(
        f"The authenticity of host '{shown_address(key.host, key.port)}' can't be established.\n"
        f"{algorithm(key.key_type)} key fingerprint is {key.fingerprint_sha256}."
    )
    question = "Are you sure you want to continue connecting (yes/no/[fingerprint])? "
    while True:
        answer = _asked(question)
        if answer == key.fingerprint_sha256 or answer.lower() == "yes":
            return True
        if answer.lower() in ("", "no"):
            return False
        question = "Please type 'yes', 'no' or the fingerprint: "


def _types_fingerprint(key: HostKey) -> bool:
    answer = _asked("To trust the new key, type its fingerprint (anything else refuses it): ")
    return answer == key.fingerprint_sha256


def _warn(key: HostKey) -> None:
    frame = "@" * (len(_ALARM) + 8)
    stored = (key.expected_public_key or "").partition(" ")[0] or key.key_type
    say(
        f"{frame}\n@   {_ALARM}   @\n{frame}\n"
        "Somebody may be listening in on you right now (man-in-the-middle attack),\n"
        f"or {shown_address(key.host, key.port)} was set up anew. Ask its administrator before you go on.\n"
        f"  trusted so far:  {algorithm(stored)} {key.expected_fingerprint_sha256 or 'unknown'}\n"
        f"  shown now:       {algorithm(key.key_type)} {key.fingerprint_sha256}"
    )


def _asked(question: str) -> str:
    """One line from the terminal; the end of input is an empty one."""
    click.echo(printable(question), nl=False, err=True)
    return sys.stdin.readline().strip()
