"""``python -m services.ingest``: ingest alone, on a port of its own."""

import sys

from core.runtime.http import create_app
from core.runtime.serve import serve
from services.ingest.main import build
from services.ingest.settings import IngestSettings

DEFAULT_METRICS_PORT = 9401

if __name__ == "__main__":
    settings = IngestSettings()
    app = create_app(build(settings), title="PIP AI Stream: ingest", cors_origins=settings.allowed_origins())
    sys.exit(
        serve(
            app,
            settings,
            service="ingest",
            host=settings.host,
            port=settings.port,
            metrics_port=DEFAULT_METRICS_PORT,
        )
    )
