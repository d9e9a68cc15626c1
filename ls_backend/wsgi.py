"""The module gunicorn serves: ``gunicorn ls_backend.wsgi:app``, as `ivos serve` does."""

from __future__ import annotations

import logging

from ls_backend.app import create_app
from ls_backend.settings import current

logging.basicConfig(level=current().log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
app = create_app(current())
