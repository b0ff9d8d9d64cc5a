"""Shared by the questions: how they answer. Runs on the remote machine: Python >= 3.6, standard library."""

import binascii
import json
import sys
import zlib

TOKEN = ""


class Failure(Exception):
    """Ends the question with `{"error": code, "message": message}`."""

    def __init__(self, code: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.answer = dict(more, error=code, message=message)


def emit(event: dict) -> None:
    """Send one object (ASCII JSON on one line) and flush it."""
    # A line end first: what a startup file printed may not have ended in one.
    sys.stdout.write("\n@@" + TOKEN + " " + json.dumps(event) + "\n")
    sys.stdout.flush()


def run(main):
    """Entry point of the sent program: reads the arguments, answers what `main` returns."""
    global TOKEN
    arguments = json.loads(zlib.decompress(binascii.a2b_base64(sys.argv[2])).decode())
    TOKEN = arguments.pop("token")
    try:
        answer = main(arguments)
        if answer is not None:
            emit(answer)
    except Failure as failure:
        emit(failure.answer)
    except OSError as error:
        emit({"error": "REMOTE_OS_ERROR", "message": str(error)})
