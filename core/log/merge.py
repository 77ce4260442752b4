"""Several readers as one, in order."""

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def merge_pages(readers: Sequence[AsyncIterator[list[T]]], key: Callable[[T], Any]) -> AsyncGenerator[list[T]]:
    """What all of these read, ordered by ``key``, as each of them is; a page of each is in memory. No page is empty."""
    pages: dict[int, list[T]] = {}

    async def turn(number: int) -> None:
        page = await anext(readers[number], None)
        if page is None:
            pages.pop(number, None)
        else:
            pages[number] = page

    for number in range(len(readers)):
        await turn(number)
    while pages:
        end = min(key(page[-1]) for page in pages.values())
        ready: list[T] = []
        for number, page in [*pages.items()]:
            count = bisect_right(page, end, key=key)
            ready += page[:count]
            if count == len(page):
                await turn(number)
            else:
                pages[number] = page[count:]
        yield sorted(ready, key=key)
