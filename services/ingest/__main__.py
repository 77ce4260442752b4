"""``python -m services.ingest``: ingest alone, on a port of its own."""

import sys

from core.runtime.serve import serve
from services.ingest.main import build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    settings = IngestSettings()
    sys.exit(serve(build(settings), settings, host=settings.host, port=settings.port, metrics=settings.metrics_port))
