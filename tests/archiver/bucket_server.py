"""A server of one bucket, as much of S3 as the archive asks for, which fails when it is told to."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import md5
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = Literal["none", "refuses", "cuts", "hangs", "drops", "denies"]
Operation = Literal["put", "list", "get", "delete"]
_PAGE = 2
_AT: str = "2025-01-01T00:00:00.000Z"


class BucketServer:
    """Fails as `fail` says: answers ``status``, 503, or half an answer, waits, or drops a half-read request.

    ``denies`` is for deletions: 200, with an answer that says they are not allowed.

    A list is answered ``_PAGE`` names at a time.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.port = 0
        self.failed = 0
        self.status = 503
        self._fault: Fault = "none"
        self._failing: Operation | None = None
        self._good = 0
        self._over = asyncio.Event()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def fail(self, fault: Fault, of: Operation | None = None, *, after: int = 0) -> None:
        """From now on, everything or requests of one kind, but for so many good ones before."""
        self._fault, self._failing, self._good = fault, of, after
        self._over.set()
        self._over = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Listen while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self._over.set()
            for writer in self._open.values():
                writer.close()
            await asyncio.gather(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.lower().split("\r\n")
                length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
                method, target, _ = head.split(" ", 2)
                fault = self._due(_operation(method, target))
                body = await reader.readexactly(length // 2 if fault == "drops" else length)
                if not await self._answer(writer, fault, method, target, body):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            del self._open[task]
            writer.close()

    def _due(self, operation: Operation) -> Fault:
        if self._fault == "none" or self._failing not in {None, operation}:
            return "none"
        if self._good:
            self._good -= 1
            return "none"
        self.failed += 1
        return self._fault

    async def _answer(self, writer: asyncio.StreamWriter, fault: Fault, method: str, target: str, body: bytes) -> bool:
        """Answer one request; whether the connection goes on."""
        if fault == "drops":
            return False
        if fault == "hangs":
            await self._over.wait()
        if fault == "denies":
            status, headers, answer = (
                200,
                "",
                _deletion(body, "Error", "<Code>AccessDenied</Code><Message>no</Message>"),
            )
        else:
            status, headers, answer = (self.status, "", b"") if fault == "refuses" else self._do(method, target, body)
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Length: {len(answer)}\r\n{headers}\r\n"
        if fault == "cuts":
            writer.write(head.encode()[: -len(head) // 2] if not answer else head.encode() + answer[: len(answer) // 2])
            return False
        writer.write(head.encode() + (b"" if method == "HEAD" else answer))
        await writer.drain()
        return True

    def _do(self, method: str, target: str, body: bytes) -> tuple[int, str, bytes]:
        parts = urlsplit(target)
        key = unquote(parts.path).partition("/bucket/")[2]
        if method == "PUT":
            self.objects[key] = body
            return 200, f"ETag: {_tag(body)}\r\n", b""
        if method == "POST":
            for name in _named(body):
                self.objects.pop(name, None)
            return 200, "", _deletion(body, "Deleted")
        if "list-type" in (asked := parse_qs(parts.query)):
            return 200, "Content-Type: application/xml\r\n", self._list(asked)
        if key not in self.objects:
            return 404, "", b""
        content = self.objects[key]
        return 200, f"ETag: {_tag(content)}\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n", content

    def _list(self, asked: dict[str, list[str]]) -> bytes:
        prefix, behind = asked.get("prefix", [""])[0], asked.get("continuation-token", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > behind)
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_AT}</LastModified>"
            f"<ETag>{escape(_tag(self.objects[key]))}</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in keys[:_PAGE]
        )
        more = f"<NextContinuationToken>{escape(keys[_PAGE - 1])}</NextContinuationToken>" if keys[_PAGE:] else ""
        about = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        return f"<ListBucketResult>{about}{found}</ListBucketResult>".encode()


def _operation(method: str, target: str) -> Operation:
    if method == "PUT":
        return "put"
    if method == "POST":
        return "delete"
    return "list" if "list-type" in parse_qs(urlsplit(target).query) else "get"


def _named(body: bytes) -> list[str]:
    """The keys that are to be deleted."""
    return re.findall("<Key>(.*?)</Key>", body.decode())


def _deletion(body: bytes, what: str, about: str = "") -> bytes:
    told = "".join(f"<{what}><Key>{key}</Key>{about}</{what}>" for key in _named(body))
    return f"<DeleteResult>{told}</DeleteResult>".encode()


def _tag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'
