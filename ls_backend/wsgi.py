"""The module gunicorn serves: ``gunicorn ls_backend.wsgi:app``, as `ivos serve` does."""

from __future__ import annotations

import atexit
import logging

from ls_backend.app import EXTENSION, create_app
from ls_backend.settings import current

logging.basicConfig(level=current().log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
# Each attempt of a download or of a frame's request would be a line; what comes of them is said by the backend itself.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
app = create_app(current())
atexit.register(app.extensions[EXTENSION].close)
