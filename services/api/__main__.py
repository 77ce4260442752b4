"""``python -m services.api``: the api alone, on a port of its own."""

import sys
from functools import partial

from core.log.fitness import why_unfit
from core.runtime.serve import serve
from services.api.main import build
from services.api.settings import ApiSettings

if __name__ == "__main__":
    settings = ApiSettings()
    unfit = partial(why_unfit, settings)
    numbers = {"port": settings.port, "metrics": settings.metrics_port, "workers": settings.api_workers}
    sys.exit(serve(build(settings), settings, host=settings.host, unfit=unfit, **numbers))
