"""``python -m services.api``: the api alone, on a port of its own."""

import sys

from core.runtime.serve import serve
from services.api.main import build
from services.api.settings import ApiSettings

if __name__ == "__main__":
    settings = ApiSettings()
    sys.exit(serve(build(settings), settings, host=settings.host, port=settings.port, metrics=settings.metrics_port))
