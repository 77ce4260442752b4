"""What goes on in the background of a process."""

import asyncio

from structlog.testing import capture_logs

from core.runtime.tasks import running
from tests.conftest import wait_until


async def test_work_that_fails_says_so_while_the_process_goes_on() -> None:
    """At the end of the process it would be too late: until then nobody does the work."""

    async def fail() -> None:
        raise LookupError("nobody thought of this")

    with capture_logs() as lines:
        async with running(fail()):
            await wait_until(lambda: lines)
    [line] = lines
    assert (line["event"], line["log_level"]) == ("background work failed", "error")
    assert "fail" in line["work"]
    assert isinstance(line["exc_info"], LookupError)


async def test_work_that_is_ended_is_no_failure() -> None:
    async def go_on() -> None:
        await asyncio.Event().wait()

    with capture_logs() as lines:
        async with running(go_on()):
            pass
    assert lines == []
