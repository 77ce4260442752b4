"""The deployment's HTTP API, asked by a person's program."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

import httpx2

_PATIENCE: Final = 60.0
"""Seconds for one answer: the API gives up a search in the archive after 20."""

Event = dict[str, Any]
"""An event as the API gives it, see `pipai_contracts.history.HistoryEvent`; a newer API may tell more."""

Asked = Mapping[str, str | int | None]
"""Parameters of a question; None is not sent."""


class ServiceError(Exception):
    """The API refused, does not answer, or answered something else; the message is one line."""


class Service:
    """The API at one address. Every method raises `ServiceError`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.Client(timeout=_PATIENCE, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def events(self, asked: Asked, *, page: int = 1000, limit: int | None = None) -> Iterator[Event]:
        """The events of all pages, at most ``limit``, in the order of the log."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            size = page if left is None else min(page, left)
            answer = self.ask("/history/events", {**asked, "limit": size, "after": after})
            try:
                events, after = cast("list[Event]", answer["events"]), cast("str | None", answer["next"])
            except (KeyError, TypeError) as error:
                raise ServiceError(f"{self._url} is no PIP AI Stream: its answer has no events") from error
            yield from events
            if after is None:
                return
            left = None if left is None else left - len(events)

    def ask(self, path: str, asked: Asked) -> Any:
        """The JSON at ``path``."""
        try:
            answer = self._client.get(self._url + path, params=_given(asked))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._away(error) from error
        if not answer.is_success:
            raise ServiceError(_problem(answer))
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceError(f"{self._url} is no PIP AI Stream: its answer is no JSON") from error

    def lines(self, path: str, asked: Asked) -> Iterator[str]:
        """The lines of a stream of Server-Sent Events, until it ends."""
        timeout = httpx2.Timeout(_PATIENCE)
        try:
            with self._client.stream("GET", self._url + path, params=_given(asked), timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise ServiceError(_problem(answer))
                yield from answer.iter_lines()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> ServiceError:
        return ServiceError(f"{self._url} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}")


def path_of(kind: str, resource_id: str) -> str:
    """``workflow/my%20id``: a topic in a path."""
    return f"{kind}/{quote(resource_id, safe='')}"


def _given(asked: Asked) -> dict[str, str | int]:
    return {name: value for name, value in asked.items() if value is not None}


def _problem(answer: httpx2.Response) -> str:
    """Title and detail of a problem, in one line."""
    try:
        problem = cast("dict[str, Any]", answer.json())
        told = f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.url.host} answered {answer.status_code}, which says nothing more"
    return " ".join(told.split())
