"""Errors a client can do something about. Each says what was expected, what arrived and what to do."""

from __future__ import annotations


class RequestError(Exception):
    """A request this backend cannot serve as it is. The client sees it with ``status``; the trace goes to the log."""

    status = 400
    code = "bad_request"


class ConfigError(RequestError):
    """The project's labelling config lacks what video masks need."""

    status = 422
    code = "unsupported_label_config"


class TaskError(RequestError):
    """The task has no frames, or not one of its frames can be read."""

    status = 422
    code = "unusable_task"


class UnknownTaskError(RequestError):
    """A task that nobody is working on."""

    status = 404
    code = "unknown_task"


class PromptError(RequestError):
    """A click or a box that cannot be used."""

    status = 422
    code = "unusable_prompt"
