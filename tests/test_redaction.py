"""The redactor: registered secrets, key texts and tokens never come out."""

from __future__ import annotations

import logging

from runicorn_remote.redaction import REDACTED, RedactingFormatter, Redactor

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"


def formatted(redactor: Redactor, message: str, *args: object, exc_info: object = None) -> str:
    record = logging.LogRecord("x", logging.INFO, "f", 1, message, args, exc_info)  # type: ignore[arg-type]
    return RedactingFormatter(redactor, "%(message)s").format(record)


def test_a_registered_secret_is_replaced_in_message_arguments_and_traceback() -> None:
    redactor = Redactor()
    redactor.register(["hunter2 is long", None, "", "abc"])
    try:
        raise ValueError("bad password 'hunter2 is long'")
    except ValueError as error:
        text = formatted(
            redactor,
            "tried %s %r",
            "hunter2 is long",
            ["hunter2 is long"],
            exc_info=(ValueError, error, error.__traceback__),
        )
    assert "hunter2" not in text
    assert text.count(REDACTED) >= 3
    assert formatted(redactor, "abc") == "abc"


def test_each_line_of_a_key_text_is_a_secret_and_so_is_its_repr() -> None:
    redactor = Redactor()
    redactor.register([KEY, "tab\there"])
    assert "b3BlbnNzaC1rZXktdjEAAAAA" not in formatted(redactor, "one line: b3BlbnNzaC1rZXktdjEAAAAA")
    assert "here" not in formatted(redactor, "%r", "tab\there")


def test_key_blocks_and_tokens_are_replaced_without_being_registered() -> None:
    redactor = Redactor()
    text = formatted(redactor, "%s Authorization: Bearer abc.DEF-1 gAAAAA" + "x" * 60, KEY)
    assert "b3Blbn" not in text
    assert "abc.DEF-1" not in text
    assert "gAAAAA" not in text


def test_a_remote_string_cannot_forge_or_colour_a_log_line() -> None:
    assert formatted(Redactor(), "%s", "a\x1b[31m\rb") == "a\\x1b[31m\\x0db"


def test_only_so_many_secrets_are_remembered() -> None:
    redactor = Redactor()
    redactor.register(f"secret-{number}" for number in range(5000))
    assert redactor.redact("secret-4999") == REDACTED
    assert redactor.redact("secret-0") == "secret-0"
