"""The WSGI module: `ivos serve` runs ``gunicorn ls_backend.wsgi:app``."""

from __future__ import annotations

import atexit
import logging

from ls_backend.app import EXTENSION, create_app
from ls_backend.settings import current

logging.basicConfig(level=current().log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
# It logs every attempt to fetch a frame or a download. The backend logs the result itself.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
app = create_app(current())
atexit.register(app.extensions[EXTENSION].close)
