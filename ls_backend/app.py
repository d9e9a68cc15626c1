"""The web application: label-studio-ml's routes with the ones replaced that would fail, fork or leak a trace.

Why each is replaced (label-studio-ml 1.0.9): /predict answers 500 until the worker saw /setup and forgets which
project's config came with the request; /webhook forks a process and rebuilds the model per event; /train and /versions
need a training server; and every error of theirs sends the stack trace to the client.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any, NoReturn

from flask import Flask, Response, jsonify, request
from label_studio_ml import api
from label_studio_ml.model import LabelStudioMLBase
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import HTTPException

from ls_backend.errors import RequestError
from ls_backend.protocol.payloads import Json, PredictRequest, SetupRequest, SuggestionsRequest, parse
from ls_backend.service import PredictionService
from ls_backend.settings import Settings

logger = logging.getLogger(__name__)
EXTENSION = "ivos"
"""Where the Flask app keeps its `PredictionService`."""
OPEN_PATHS = frozenset({"/", "/health", "/webhook"})
"""Health checks of containers carry no credentials, and Label Studio sends none to its webhooks."""
MAX_BODY_BYTES = 250 * 1024 * 1024
"""Label Studio's own limit."""
_METHODS = {"/versions": ["GET", "POST"], "/suggestions": ["GET"]}
"""The routes that take other methods than POST. Label Studio asks /versions with GET; the library only knows POST."""


class IvosModel(LabelStudioMLBase):  # type: ignore[misc]  # label-studio-ml has no types
    """The model class that label-studio-ml's ``init_app`` asks for, in 1.0.9 and in 2.x. It is never instantiated.

    The library makes instances per /setup (1.0.9) or per request (2.x). Weights and sessions outlive both, so they live
    in the app's `PredictionService`, and the routes that would call the model are replaced.
    """

    def predict(self, tasks: list[Json], context: Json | None = None, **kwargs: Any) -> NoReturn:
        """Never called: /predict goes to `PredictionService.predict`."""
        raise NotImplementedError("requests are served by PredictionService, see ls_backend.app.create_app")


def create_app(settings: Settings) -> Flask:
    """Build the application with its service. Loads what the method needs, so that the first click does not wait."""
    app = Flask("ls_backend")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    service = app.extensions[EXTENSION] = PredictionService(settings)

    @app.before_request
    def require_credentials() -> tuple[Response, int, dict[str, str]] | None:
        if is_allowed(request.path, request.authorization, settings):
            return None
        body = _error_body("unauthorized", "expected HTTP Basic authentication with the backend's user and password")
        return body, 401, {"WWW-Authenticate": 'Basic realm="ivos"'}

    _mount(app, _own_views(service))
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)
    return app


def is_allowed(path: str, authorization: Authorization | None, settings: Settings) -> bool:
    """Whether a request may be served: the path is open, authentication is off, or the credentials are right."""
    if settings.auth_disabled or path in OPEN_PATHS:
        return True
    if authorization is None or authorization.type != "basic":
        return False
    pairs = (
        (authorization.username or "", settings.basic_auth_user),
        (authorization.password or "", settings.basic_auth_pass.get_secret_value()),
    )
    # Both are always compared, in constant time, so that timing tells nothing about either.
    matches = [hmac.compare_digest(given.encode(), expected.encode()) for given, expected in pairs]
    return all(matches)


def _mount(app: Flask, own_views: dict[str, Callable[[], Response]]) -> None:
    """Give the app label-studio-ml's routes, with our views where we have one for the path."""
    server = api.init_app(IvosModel)
    for rule in server.url_map.iter_rules():
        if rule.rule not in own_views and rule.endpoint != "static":
            methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            app.add_url_rule(rule.rule, rule.endpoint, server.view_functions[rule.endpoint], methods=methods)
    for path, view in own_views.items():
        app.add_url_rule(path, f"ivos{path.replace('/', '_')}", view, methods=_METHODS.get(path, ["POST"]))


def _own_views(service: PredictionService) -> dict[str, Callable[[], Response]]:
    def predict() -> Response:
        results = service.predict(parse(PredictRequest, _json_object(), "the request"))
        return jsonify({"results": results, "model_version": service.model_version})

    def setup() -> Response:
        return jsonify(service.setup(parse(SetupRequest, _json_object(), "the request")))

    def webhook() -> Response:
        event = _json_object()
        logger.info("webhook: %s", event.get("action"))
        service.webhook(event)
        return jsonify({})

    def train() -> Response:
        # Nothing is trained between sessions: classifiers are fitted per video, while the annotator works.
        return jsonify({})

    def versions() -> Response:
        return jsonify({"versions": [service.model_version]})

    def suggestions() -> Response:
        query = parse(SuggestionsRequest, request.args.to_dict(), "the query")
        return jsonify({"sessions": service.suggestions(query)})

    return {
        "/predict": predict,
        "/setup": setup,
        "/webhook": webhook,
        "/train": train,
        "/versions": versions,
        "/suggestions": suggestions,
    }


def _json_object() -> Json:
    body = request.get_json(force=True)
    if not isinstance(body, dict):
        raise RequestError(f"expected a JSON object, but got {type(body).__name__}")
    return body


def _error_body(code: str, message: str) -> Response:
    return jsonify({"error": {"code": code, "message": message}})


def _request_error(error: RequestError) -> tuple[Response, int]:
    logger.warning("%s %s: %s", request.method, request.path, error, exc_info=error)
    return _error_body(error.code, str(error)), error.status


def _http_error(error: HTTPException) -> tuple[Response, int]:
    logger.warning("%s %s: %s", request.method, request.path, error, exc_info=error)
    return _error_body(error.name.lower().replace(" ", "_"), error.description or error.name), error.code or 500


def _unexpected_error(error: Exception) -> tuple[Response, int]:
    reference = secrets.token_hex(4)
    logger.error("%s %s failed, reference %s", request.method, request.path, reference, exc_info=error)
    message = f"the backend failed; its log has the trace under the reference {reference}. Prompts are kept: try again"
    return _error_body("internal_error", message), 500
