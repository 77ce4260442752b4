"""Uploads: a document is stored, handed to Temporal and announced, or nothing of it stays."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter

from pipai_contracts.analysis import DocumentAnalysisInput
from services.ingest.intake import plain_filename
from services.standalone.embedded import Server, redis_server, temporal_server
from tests.ingest.conftest import Log, Serve, StoredFiles

PDF = b"%PDF-1.7\n" + b"x" * 50_000
MAX_BYTES = 100_000


@pytest.fixture
async def temporal(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


@pytest.fixture
async def queue() -> str:
    """A task queue nobody works on."""
    return f"t{uuid4().hex}"


@pytest.fixture
async def client(serve: Serve, temporal_address: str, queue: str, log: Log) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an ingest with Temporal, whose watcher leaves out the ends of other tests' workflows."""
    await log.redis.set(log.keys.watched, "2999-01-01T00:00:00.000Z")
    async with serve(
        temporal_address=temporal_address, temporal_task_queue=queue, upload_max_bytes=MAX_BYTES
    ) as client:
        yield client


async def test_an_uploaded_document_is_stored_started_and_announced(
    client: httpx2.AsyncClient, temporal: Client, queue: str, log: Log, stored_files: StoredFiles
) -> None:
    answer = await client.post(
        "/upload",
        files={"file": ("../../My report.pdf", PDF, "application/pdf")},
        data={"user_id": "ada"},
    )

    assert answer.status_code == 202, answer.text
    told = answer.json()
    file_id, workflow_id = told["file_id"], told["workflow_id"]
    assert told == {
        "file_id": file_id,
        "workflow_id": f"document-{file_id}",
        "stream_url": f"/stream/workflow/{workflow_id}",
        "file_stream_url": f"/stream/file/{file_id}",
    }
    [stored] = stored_files()
    assert stored.read_bytes() == PDF
    assert stored.name == file_id

    run_id = await _assert_started(temporal, workflow_id, file_id, queue)
    for source, topic in (
        ("workflow:progress", f"workflow:{workflow_id}"),
        ("analysis:progress", f"file:{file_id}"),
    ):
        [fields] = await log.events(source)
        assert (fields["topic"], fields["user"], fields["run"]) == (topic, "ada", run_id)
        data = json.loads(fields["data"])
        assert (data["step"], data["progress"]) == ("queued", 0)


async def _assert_started(temporal: Client, workflow_id: str, file_id: str, queue: str) -> str:
    """The analysis of ada's report runs, with all it needs to know; returns its run id."""
    handle = temporal.get_workflow_handle(workflow_id)
    described = await handle.describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert (described.workflow_type, described.task_queue) == ("DocumentAnalysis", queue)
    assert await described.memo() == {"tenant": "default", "file_id": file_id, "user_id": "ada"}
    assert described.raw_info.HasField("execution_time")
    history = await handle.fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    assert started.workflow_execution_timeout.ToTimedelta() == timedelta(days=1)
    [given] = await temporal.data_converter.decode(started.input.payloads, [DocumentAnalysisInput])
    assert given == DocumentAnalysisInput(
        workflow_id=workflow_id,
        file_id=file_id,
        user_id="ada",
        storage_key=f"documents/{file_id}",
        filename="My report.pdf",
        content_type="application/pdf",
    )
    assert described.run_id is not None
    return described.run_id


async def test_the_owner_may_come_after_the_file_or_not_at_all(client: httpx2.AsyncClient, log: Log) -> None:
    after = b"".join(
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nHello.\r\n',
            b'--b\r\nContent-Disposition: form-data; name="user_id"\r\n\r\ngrace\r\n--b--\r\n',
        )
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert (await client.post("/upload", content=after, headers=headers)).status_code == 202
    assert (await client.post("/upload", files={"file": ("a.txt", b"Hi")})).status_code == 202
    empty = await client.post("/upload", files={"file": ("a.txt", b"Hi")}, data={"user_id": ""})
    assert empty.status_code == 202

    assert [fields["user"] for fields in await log.events("workflow:progress")] == ["grace", "", ""]


async def test_a_file_of_exactly_the_limit_is_taken(client: httpx2.AsyncClient, stored_files: StoredFiles) -> None:
    content = b"x" * MAX_BYTES
    assert (await client.post("/upload", files={"file": ("a.txt", content)})).status_code == 202
    [stored] = stored_files()
    assert stored.stat().st_size == MAX_BYTES


@dataclass(frozen=True)
class Bad:
    """An upload that is refused: with which status, and where it says the fault is."""

    name: str
    status: int
    where: str
    files: list[tuple[str, Any]] = field(default_factory=lambda: [("file", ("a.txt", b"Hello."))])
    data: dict[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    content_type: str | None = None

    async def send(self, client: httpx2.AsyncClient) -> httpx2.Response:
        if self.raw is None:
            return await client.post("/upload", files=self.files, data=self.data)
        headers = {"content-type": self.content_type or "multipart/form-data; boundary=b"}
        return await client.post("/upload", content=self.raw, headers=headers)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 5000
BAD = [
    Bad("an image", 415, "body.file", [("file", ("a.png", PNG, "image/png"))]),
    Bad("an image called PDF", 415, "body.file", [("file", ("a.pdf", PNG, "application/pdf"))]),
    Bad("text called PDF", 415, "body.file", [("file", ("a.pdf", b"Hello."))]),
    Bad("an empty file", 422, "body.file", [("file", ("a.txt", b""))]),
    Bad("one byte too many", 413, "body.file", [("file", ("a.txt", b"x" * (MAX_BYTES + 1)))]),
    Bad("a length far too long", 413, "body", [("file", ("a.txt", b"x" * MAX_BYTES * 2))]),
    Bad("two files", 422, "body.file", [("file", ("a.txt", b"Hello.")), ("file", ("b.txt", b"Hello."))]),
    Bad("a file of another name", 422, "body.document", [("document", ("a.txt", b"Hello."))]),
    Bad("no file", 422, "body.file", [], raw=b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--'),
    Bad("an unknown field", 422, "body.colour", data={"colour": "red"}),
    Bad("a user that cannot be shown", 422, "body.user_id", data={"user_id": "a\nb"}),
    Bad("a long user", 422, "body.user_id", data={"user_id": "u" * 201}),
    Bad("JSON", 415, "header.content-type", raw=b"{}", content_type="application/json"),
    Bad("no boundary", 415, "header.content-type", raw=b"--b", content_type="multipart/form-data"),
    Bad("no form", 400, "body", raw=b"Hello."),
    Bad(
        "half a form",
        400,
        "body",
        raw=b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"Hello. " * 1000,
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
async def test_of_a_refused_upload_nothing_stays(
    client: httpx2.AsyncClient, temporal: Client, queue: str, log: Log, stored_files: StoredFiles, bad: Bad
) -> None:
    before = await log.every_key()
    answer = await bad.send(client)

    assert answer.status_code == bad.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert bad.where in [error["where"] for error in answer.json()["errors"]]
    assert stored_files() == []
    assert await log.every_key() == before
    assert [found.id async for found in temporal.list_workflows(f"TaskQueue = '{queue}'")] == []


async def test_a_body_of_unknown_length_is_refused_while_it_arrives(
    client: httpx2.AsyncClient, stored_files: StoredFiles
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(100):
            yield b"x" * (MAX_BYTES // 10)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await client.post("/upload", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert stored_files() == []


async def test_without_temporal_an_upload_is_a_503_that_says_so(
    serve: Serve, log: Log, stored_files: StoredFiles
) -> None:
    async with serve() as client:
        answer = await client.post("/upload", files={"file": ("a.txt", b"Hello.")})
    assert answer.status_code == 503
    assert "not configured" in answer.json()["detail"]
    assert stored_files() == []
    assert await log.every_key() == {}


@pytest.fixture
def own_temporal(tmp_path: Path) -> Iterator[Server]:
    """A Temporal this test may kill; not started yet."""
    server = temporal_server(tmp_path / "temporal")
    yield server
    server.stop()


async def test_with_temporal_away_an_upload_is_a_503_and_nothing_stays_until_it_is_back(
    serve: Serve, own_temporal: Server, log: Log, stored_files: StoredFiles
) -> None:
    async with serve(temporal_address=own_temporal.address, watch_interval=30) as client:
        answer = await client.post("/upload", files={"file": ("a.txt", b"Hello.")})
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/temporal-unavailable"
        assert stored_files() == []
        assert await log.every_key() == {}

        own_temporal.start()
        assert (await client.post("/upload", files={"file": ("a.txt", b"Hello.")})).status_code == 202


async def test_temporal_going_away_while_the_file_arrives_leaves_nothing(
    serve: Serve, own_temporal: Server, log: Log, stored_files: StoredFiles
) -> None:
    """The moment between storing and starting: the file is there and has to go again."""
    own_temporal.start()

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nHello.'
        own_temporal.kill()
        yield b"\r\n--b--\r\n"

    async with serve(temporal_address=own_temporal.address, watch_interval=30) as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = await client.post("/upload", content=body(), headers=headers, timeout=20)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/temporal-unavailable"
    assert stored_files() == []
    assert await log.events("workflow:progress") == []


async def test_with_redis_away_an_upload_is_a_503_and_nothing_stays(
    serve: Serve, temporal_address: str, tmp_path: Path, stored_files: StoredFiles
) -> None:
    away = redis_server(tmp_path / "redis")
    async with serve(redis_url=away.address, temporal_address=temporal_address) as client:
        answer = await client.post("/upload", files={"file": ("a.txt", b"Hello.")})
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/log-unavailable"
    assert stored_files() == []


async def test_a_storage_that_cannot_be_written_is_a_503(client: httpx2.AsyncClient, storage: Path, log: Log) -> None:
    (storage / "documents").write_text("a file where the folder should be")
    answer = await client.post("/upload", files={"file": ("a.txt", b"Hello.")})
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/storage-unavailable"
    assert str(storage) not in answer.text
    assert await log.events("workflow:progress") == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\Report.docx", "Report.docx"),
        ("日本.md", "日本.md"),
        ("a\nb\0.txt", "ab.txt"),
        ("", "document"),
        ("..", ".."),
        ("n" * 300 + ".pdf", "n" * 251 + ".pdf"),
    ],
)
def test_a_file_name_is_kept_as_data_only(sent: str, kept: str) -> None:
    assert plain_filename(sent) == kept
