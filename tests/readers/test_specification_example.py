"""The JavaScript that the specification prints for the browser, as printed, on a page of the api's origin."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.api.conftest import Api, Producer
from tests.conftest import wait_until
from tests.readers.chromium import page_at
from tests.readers.line import Line

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.chromium,
    pytest.mark.usefixtures("brief_farewell"),
]

EXAMPLE = """
const eventSource = new EventSource('/stream/workflow/my-workflow-id');

eventSource.addEventListener('workflow_progress', (event) => {
  const data = JSON.parse(event.data);
  console.log(`Progress: ${data.progress}% - ${data.step}`);

  document.getElementById('progress').textContent = `${data.progress}%`;
  document.getElementById('step').textContent = data.step;
});

eventSource.addEventListener('error', (event) => {
  console.error('Stream error:', event);
});
"""

WHEN_DONE = "eventSource.close();"
"""The example's last line, which by its comment is for when one is done."""

UNTIL_COMPLETE = """
const result = { workflow_id: 'my-workflow-id' };
const eventSource = new EventSource(`/stream/workflow/${result.workflow_id}`);

eventSource.addEventListener('workflow_progress', (event) => {
  const data = JSON.parse(event.data);
  if (data.progress >= 100) {
    console.log('Analysis complete!', data.result);
    eventSource.close();
  }
});
"""
"""What the specification's TypeScript client does with what its upload answered."""

PAGE = "<!doctype html><title>Example</title><p id='progress'></p><p id='step'></p><script>%s</script>"


class Console(list[str]):
    """What the page wrote to the console."""

    def hear(self, message: ConsoleMessage) -> None:
        self.append(message.text)


@pytest.fixture
def script() -> str:
    """The script of the page."""
    return EXAMPLE


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, line: Line, script: str) -> AsyncIterator[Page]:
    """A page with the script, not open yet. An error in the script fails the test."""
    crashes: list[str] = []
    async with page_at(browser, line.url, PAGE % script) as page:
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: crashes.append(str(error)))
        yield page
    assert crashes == []


@pytest_asyncio.fixture(loop_scope="session")
async def console(page: Page) -> Console:
    """What the page writes. Asynchronous: listening asks for the event loop, which only such a fixture has for sure."""
    console = Console()
    page.on("console", console.hear)
    return console


async def test_the_example_shows_progress_and_is_open_until_it_is_closed(
    page: Page, console: Console, api: Api, producer: Producer, line: Line
) -> None:
    progress, step = page.locator("#progress"), page.locator("#step")
    await page.goto(f"{line.url}/page")
    await wait_until(api.active_streams)
    await producer.progress("my-workflow-id", 25)
    await expect(progress).to_have_text("25%")
    await expect(step).to_have_text("work")
    assert console == ["Progress: 25% - work"]
    await page.evaluate(WHEN_DONE)

    async def left() -> bool:
        return await api.active_streams() == 0

    await wait_until(left)
    await producer.progress("my-workflow-id", 50)
    await expect(progress).to_have_text("25%")


async def test_the_example_comes_back_when_the_connection_breaks_and_misses_nothing(
    page: Page, console: Console, producer: Producer, line: Line
) -> None:
    await page.goto(f"{line.url}/page")
    await wait_until(lambda: line.encodings)
    await producer.progress("my-workflow-id", 25)
    await wait_until(lambda: "Progress: 25% - work" in console)
    await line.cut()
    await producer.progress("my-workflow-id", 50, 75)
    line.release()
    await expect(page.locator("#progress")).to_have_text("75%")
    shown = [text for text in console if text.startswith("Progress")]
    assert shown == [f"Progress: {at}% - work" for at in (25, 50, 75)]
    assert any(text.startswith("Stream error:") for text in console)


async def test_the_example_is_done_when_the_run_is_and_does_not_come_back_for_ever(
    page: Page, producer: Producer, line: Line
) -> None:
    await page.goto(f"{line.url}/page")
    await wait_until(lambda: line.encodings)
    await producer.progress("my-workflow-id", 50, 100)
    await expect(page.locator("#progress")).to_have_text("100%")
    await page.wait_for_function("eventSource.readyState === EventSource.CLOSED")


@pytest.mark.parametrize("script", [UNTIL_COMPLETE])
@pytest.mark.parametrize("late", [False, True], ids=["who watches", "who comes late"])
async def test_the_result_comes_to(
    page: Page, console: Console, api: Api, producer: Producer, line: Line, *, late: bool
) -> None:
    """A run that ended before its viewer came tells it the result all the same."""
    if late:
        await producer.progress("my-workflow-id", 50, 100, result={"pages": 3})
        await page.goto(f"{line.url}/page")
    else:
        await page.goto(f"{line.url}/page")
        await wait_until(api.active_streams)
        await producer.progress("my-workflow-id", 50, 100, result={"pages": 3})
    await wait_until(lambda: console)
    assert console == [f"Analysis complete! {json.dumps({'pages': 3}).replace(chr(34), '')}"]
    assert await page.evaluate("eventSource.readyState === EventSource.CLOSED")
