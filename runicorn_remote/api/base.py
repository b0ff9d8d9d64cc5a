"""What every blueprint is made of: the request parser, the schema base and the way to the services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import flask_smorest
import marshmallow
from flask import Response, current_app, g
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from flask import Request

    from runicorn_remote.services import Services


def services() -> Services:
    """The one `Services` object of this application."""
    return cast("Services", current_app.extensions["runicorn_remote"])


def json_text(text: str) -> Response:
    """An answer that is JSON already. The schema of its route only documents it; a test compares them."""
    return Response(text, mimetype="application/json")


class Schema(marshmallow.Schema):
    """Base of all schemas. Fields we do not know are ignored: old and new clients send extras."""

    class Meta:
        unknown = marshmallow.EXCLUDE


class Parser(FlaskParser):
    """Reads JSON bodies and query strings; every fault of form ends in a 4xx, never in a 500."""

    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 - webargs' own attribute
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "json": marshmallow.EXCLUDE,
    }

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """Keeps what was validated for the audit log."""
        arguments = super().parse(*args, **kwargs)
        if kwargs.get("location") == "json":
            g.arguments = arguments
        return arguments

    def load_json(self, request: Request, schema: marshmallow.Schema) -> Any:
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("Send the body as application/json.")
        try:
            # Depth and the length of integers are bounded by what json itself refuses.
            return json.loads(request.get_data(cache=True))
        except (ValueError, RecursionError) as error:
            raise BadRequest("The body is not valid JSON.") from error


class Blueprint(flask_smorest.Blueprint):
    """A blueprint whose `arguments` use our parser."""

    ARGUMENTS_PARSER = Parser()
