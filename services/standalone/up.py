"""`./run up`: the whole system on one machine, until Ctrl-C."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from core.log.fitness import why_unfit
from core.runtime.exits import UNFIT
from core.runtime.ports import NoFreePortError
from core.runtime.settings import what_is_wrong
from services.admin.command import RefusedError
from services.standalone.admin import PROGRAM
from services.standalone.case import Case, open_case
from services.standalone.child import Child, State
from services.standalone.embedded import EmbeddedError
from services.standalone.output import Output
from services.standalone.plan import Plan, make_plan
from services.standalone.settings import StandaloneSettings
from services.standalone.state import AlreadyRunningError, ServiceState, SystemState, only_one, write_state
from services.standalone.supervisor import Supervisor, given_up

FOLDER: Final = Path(".pipai")
"""Where everything the running system keeps is, below the working directory."""

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(projectors: int, file: Path | None = None) -> int:
    """Start everything, with so many projectors, and return when it was stopped.

    ``file`` is an exported history: then it is a system of its own, with that alone.

    Returns 0, or 2 after one sentence when it cannot run here.
    """
    began = time.monotonic()
    try:
        case = open_case(file, FOLDER) if file is not None else None
        folder = case.folder if case is not None else FOLDER
        with only_one(folder):
            if case is not None:
                case.clear()
            settings = case.settings() if case is not None else StandaloneSettings()
            plan = make_plan(settings, folder, projectors)
            if case is not None:
                plan.table[:1] = case.table(plan.web_address)
            return asyncio.run(_serve(settings, plan, folder, case, began))
    except ValidationError as error:
        problem = what_is_wrong(error)
    except (AlreadyRunningError, EmbeddedError, NoFreePortError, RefusedError) as error:
        problem = str(error)
    sys.stderr.write(f"{problem}\n")
    return UNFIT


async def _why_not(settings: StandaloneSettings, address: str, case: Case | None) -> str | None:
    """Why the services should not be started on this Redis; the case is in its log by then."""
    problem = await why_unfit(settings, address)
    return problem if problem is not None or case is None else await case.load(address, settings)


async def _serve(settings: StandaloneSettings, plan: Plan, folder: Path, case: Case | None, began: float) -> int:
    output = Output(folder / "logs")
    ready = False

    def record(children: list[Child]) -> None:
        services = [
            ServiceState(
                name=child.service.name,
                state=child.state.value,
                pid=child.pid,
                restarts=child.restarts,
                address=child.service.address,
            )
            for child in children
        ]
        write_state(folder, SystemState(pid=os.getpid(), address=plan.web_address, ready=ready, services=services))

    def when_ready() -> None:
        nonlocal ready
        ready = True
        record(supervisor.children)
        output.show(_table(plan, supervisor.children, time.monotonic() - began))

    supervisor = Supervisor(plan.stages, output, record, lambda: _why_not(settings, plan.redis_address, case))
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, supervisor.stop)
    output.say(f"starting {', '.join(child.service.name for child in supervisor.children)}")
    try:
        await supervisor.run(when_ready)
        output.say("stopped")
    finally:
        output.close()
    if supervisor.refused is not None:
        sys.stderr.write(f"{supervisor.refused.replace('pipai-admin', PROGRAM)}\n")
        return UNFIT
    return 0


def _table(plan: Plan, children: list[Child], seconds: float) -> str:
    width = max(len(name) for name, _ in plan.table)
    rows = [f"  {name:<{width}}  {value}" for name, value in plan.table]
    dead = given_up(children)
    running = [child for child in children if child.state is State.READY]
    head = f"PIP AI Stream: {len(running)} services ready after {seconds:.1f} s"
    if dead:
        head += f"; not running: {', '.join(dead)} (./run logs {dead[0]})"
    return "\n".join(["", head, "", *rows, ""])
