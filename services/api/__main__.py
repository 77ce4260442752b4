"""``python -m services.api``: the api alone, on a port of its own."""

import sys

from core.runtime.http import create_app
from core.runtime.serve import serve
from services.api.main import DEFAULT_METRICS_PORT, build
from services.api.settings import ApiSettings

if __name__ == "__main__":
    settings = ApiSettings()
    app = create_app(build(settings), title="PIP AI Stream: api", cors_origins=settings.allowed_origins())
    sys.exit(
        serve(app, settings, service="api", host=settings.host, port=settings.port, metrics_port=DEFAULT_METRICS_PORT)
    )
