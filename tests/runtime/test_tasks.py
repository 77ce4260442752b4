"""What goes on in the background of a process."""

import asyncio

import pytest
from structlog.testing import capture_logs

from core.runtime.tasks import running, together
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


async def test_work_that_fails_ends_what_is_done_together_with_it() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def go_on() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        await begun.wait()
        raise LookupError("nobody thought of this")

    with pytest.raises(LookupError, match="nobody thought of this"):
        await together([go_on(), fail()])
    assert ended.is_set()
