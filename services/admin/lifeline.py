"""``python -m services.admin.lifeline MODULE``: runs a module, and has it stop when who started it is gone.

Standard input is a pipe whose other end that process holds: it closes with it, however it ends, also by SIGKILL.
"""

import os
import runpy
import signal
import sys
import threading


def _stop_when_cut() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    module = sys.argv.pop(1)
    threading.Thread(target=_stop_when_cut, daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
