"""``python -m core.runtime.as_worker services.api``: a service's program as one of several workers.

Before anything is measured it has the metrics kept in files that the parent reads. They are named by the worker's
number, not by its process: one that is started again counts on where the last one stopped.
"""

import runpy
import sys

from prometheus_client import values

from core.runtime.worker import Worker, end_with_parent

if __name__ == "__main__":
    worker = Worker.this()
    if worker is None:
        sys.exit("this is what a service with several workers starts by itself; run the service instead")
    number = worker.number
    values.ValueClass = values.MultiProcessValue(lambda: number)
    end_with_parent(worker.folder)
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
