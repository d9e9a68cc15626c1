"""The model class label-studio-ml expects. It only hands on; it runs with 1.0.9 of the registry and with 2.x alike."""

from __future__ import annotations

from typing import Any

from flask import current_app
from label_studio_ml.model import LabelStudioMLBase

from ls_backend.protocol.payloads import Json, PredictRequest, parse
from ls_backend.service import PredictionService

EXTENSION = "ivos"
"""Where the Flask app keeps its `PredictionService`."""


class IvosModel(LabelStudioMLBase):  # type: ignore[misc]  # label-studio-ml has no types
    """Interactive video object segmentation. Weights and sessions live in the app's service, never on ``self``:
    1.0.9 rebuilds its one instance at every /setup, 2.x makes one per request."""

    def predict(self, tasks: list[Json], context: Json | None = None, **kwargs: Any) -> list[Json]:
        """Label Studio's predictions, one per task and in order; see `PredictionService.predict`."""
        body = {
            "tasks": tasks,
            "project": kwargs.get("project", ""),
            "label_config": kwargs.get("label_config", ""),
            "params": {"context": context},
        }
        service: PredictionService = current_app.extensions[EXTENSION]
        return service.predict(parse(PredictRequest, body, "the request"))

    def fit(self, *_args: Any, **_kwargs: Any) -> Json:
        """Nothing is trained between sessions: classifiers are fitted per video, while the annotator works."""
        return {}
