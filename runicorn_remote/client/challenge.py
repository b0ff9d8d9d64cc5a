"""What a host asks at the login, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """One question, in the host's words. `echo`: the answer may be shown while it is typed."""

    text: str
    echo: bool


@dataclass(frozen=True)
class Challenge:
    """What one server asks at once, as the API's 401 describes it. All texts are the server's own.

    `host`, `port` and `username` say who asks, which may be a jump host. `expires_in` is in seconds.
    """

    challenge_id: str
    host: str
    port: int
    username: str
    name: str
    instructions: str
    prompts: tuple[Prompt, ...]
    expires_in: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Challenge:
        """From the `detail` of a 401. Raises `ValueError` if something is missing."""
        try:
            prompts = [Prompt(str(item["prompt"]), item["echo"] is True) for item in values["prompts"]]
            return cls(
                challenge_id=str(values["challenge_id"]),
                host=str(values["host"]),
                port=int(values["port"]),
                username=str(values["username"]),
                name=str(values["name"]),
                instructions=str(values["instructions"]),
                prompts=tuple(prompts),
                expires_in=float(values["expires_in"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("this does not describe a host's questions") from error


# Called with what the host asks; returns one answer a prompt, or None to give up.
OnChallenge = Callable[[Challenge], Sequence[str] | None]
