"""What a connection may do, well meant or not, while uvicorn has it and after it was handed over."""

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from core.runtime import http_protocol
from core.runtime.http_protocol import HEADER_BYTES, SILENCE_SECONDS
from tests.conftest import wait_until
from tests.runtime.http_server import HELLO, LOOPS, SECONDS, Running, served
from tests.shapes.certificate import write_certificate

HOST = "Host: test"


@pytest.fixture(params=LOOPS)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The application, on each event loop in turn."""
    with served(request.param) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers have to come within 0.3 s instead of 10 s."""
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.3)


# What waits


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_says_nothing_is_closed(running: Running) -> None:
    with running.client() as client:
        assert client.rest() == b""


@pytest.mark.usefixtures("impatient")
def test_headers_that_dribble_in_are_not_waited_for(running: Running) -> None:
    with running.client() as client:
        client.connection.sendall(b"GET /echo HTTP/1.1\r\n")
        client.connection.settimeout(0.05)
        for sent in range(100):
            try:
                client.connection.sendall(b"x: y\r\n")
                assert client.connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                pass
            assert sent > 0
            return
    pytest.fail("the server waits for the headers' end")


@pytest.mark.usefixtures("impatient")
def test_empty_lines_do_not_keep_a_connection_open(running: Running) -> None:
    """Uvicorn's own limit between two requests ends with the first byte of anything."""
    with running.client() as client:
        client.send("GET /echo HTTP/1.1", HOST)
        client.until(b"\r\n\r\n")
        client.connection.sendall(b"\r\n")
        assert client.rest() == b""


@pytest.mark.usefixtures("impatient")
def test_a_body_that_nobody_waits_for_may_not_dribble_in_for_ever(running: Running) -> None:
    with running.client() as client:
        client.send("POST /early HTTP/1.1", HOST, "Content-Length: 100000")
        client.until(b"\r\n\r\nno")
        client.connection.sendall(b"x")
        assert client.rest() == b""


def test_a_large_body_that_nobody_wants_is_read_to_its_end_and_the_connection_goes_on(running: Running) -> None:
    with running.client() as client:
        client.send("POST /early HTTP/1.1", HOST, f"Content-Length: {20 * HEADER_BYTES}")
        client.until(b"\r\n\r\nno")
        for _ in range(20):
            client.connection.sendall(b"x" * HEADER_BYTES)
        client.send("POST /echo HTTP/1.1", HOST, "Content-Length: 2", body=b"ok")
        client.until(b"\r\n\r\nok")


def test_headers_without_end_are_refused(running: Running) -> None:
    with running.client() as client:
        client.connection.sendall(b"GET /echo HTTP/1.1\r\n")
        refused = b""
        try:
            for number in range(HEADER_BYTES):
                client.connection.sendall(f"x-{number}: {'y' * 1000}\r\n".encode())
        except ConnectionError:
            refused = b"HTTP/1.1 431"  # the answer came too late to be read
        else:
            refused = client.rest()
        assert refused.startswith(b"HTTP/1.1 431")


def test_long_headers_are_taken(running: Running) -> None:
    with running.client() as client:
        client.send("GET /echo HTTP/1.1", HOST, f"Cookie: {'c' * 32_000}", f"X-Other: {'o' * 20_000}")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_the_system_ends_a_connection_whose_other_side_is_gone_without_a_word(running: Running) -> None:
    with running.client() as client:
        client.send("GET /stream HTTP/1.1", HOST)
        client.until(HELLO)
        transport = running.application.watchers[0].transport
        assert transport is not None
        connection = transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE_SECONDS * 1000


# What is handed over


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_was_handed_over_is_the_successors_alone(running: Running) -> None:
    with running.client() as client:
        client.send("GET /stream HTTP/1.1", HOST)
        client.until(HELLO)
        (watcher,) = running.application.watchers
        assert running.server.server_state.connections == set()
        client.send("GET /echo HTTP/1.1", HOST)
        client.connection.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
        assert watcher.left.wait(SECONDS)
        assert watcher.heard.startswith(b"GET /echo")


@pytest.mark.usefixtures("impatient")
async def test_a_stream_with_requests_behind_it_stays_open(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """They are not answered, and do not take the stream's place: not the whole one, and not the half one."""
    with running.client() as client, caplog.at_level(logging.ERROR):
        request = "GET {} HTTP/1.1\r\nHost: test\r\n\r\n"
        text = request.format("/stream") + request.format("/echo") + "GET /ec"
        client.connection.sendall(text.encode())
        client.until(HELLO)
        (watcher,) = running.application.watchers
        await asyncio.sleep(0.5)  # longer than headers are waited for
        assert not watcher.left.is_set()
        client.connection.close()
        await wait_until(watcher.left.is_set)
    assert caplog.messages == []


def test_a_stream_may_be_the_second_request_of_a_connection(running: Running) -> None:
    with running.client() as client:
        for word in ("one", "two"):
            client.send("POST /echo HTTP/1.1", HOST, "Content-Length: 3", body=word.encode())
            client.until(f"\r\n\r\n{word}".encode())
        client.send("GET /stream HTTP/1.1", HOST)
        client.until(HELLO)


async def test_a_client_that_leaves_before_its_stream_begins_is_no_watcher(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        with running.client() as client:
            client.send("GET /patient HTTP/1.1", HOST)
            assert running.application.asked.wait(SECONDS)
        await wait_until(lambda: not running.server.server_state.connections)
        running.application.go.set()
        await wait_until(running.application.refused.is_set)
    assert running.application.watchers == []
    assert caplog.messages == []


def test_a_body_that_comes_after_the_head_of_the_answer_is_passed_over(running: Running) -> None:
    with running.client() as client:
        client.send("POST /stream HTTP/1.1", HOST, "Content-Length: 300000")
        client.until(HELLO)
        client.connection.sendall(b"x" * 300_000)
        client.connection.close()
        assert running.application.watchers[0].left.wait(SECONDS)


async def test_nothing_of_a_request_waits_for_the_garbage_collector(running: Running) -> None:
    """Thousands of requests a second, with their bodies, would stay until it looks; and each open stream's."""
    gc.collect()
    gc.disable()
    try:
        with running.client() as client:
            for word in ("one", "two"):
                client.send("POST /echo HTTP/1.1", HOST, "Content-Length: 3", body=word.encode())
                client.until(f"\r\n\r\n{word}".encode())
            await wait_until(lambda: _cycles() <= 1)
            client.send("GET /stream HTTP/1.1", HOST)
            client.until(HELLO)
            await wait_until(lambda: _cycles() == 0)
    finally:
        gc.enable()


def _cycles() -> int:
    return sum(type(thing) is RequestResponseCycle for thing in gc.get_objects())


def test_an_encrypted_connection_is_handed_over_too(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    for loop in LOOPS:
        with (
            served(loop, ssl_certfile=str(certificate), ssl_keyfile=str(key)) as running,
            running.client(context) as client,
        ):
            client.send("GET /stream HTTP/1.1", HOST)
            client.until(HELLO)
            client.connection.close()
            assert running.application.watchers[0].left.wait(SECONDS)


# Who speaks otherwise


@pytest.mark.parametrize("path", ["/bare", "/echo", "/early"])
def test_http_1_0_gets_no_chunks(running: Running, path: str) -> None:
    with running.client() as client:
        client.send(f"POST {path} HTTP/1.0", "Content-Length: 7", body=b"one two")
        head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert head.lower().count(b"connection: ") == head.lower().count(b"connection: close") == 1
    assert body == {"/early": b"no"}.get(path, b"one two")


def test_http_1_0_is_not_handed_over(running: Running) -> None:
    """Who serves it has to ask whether it can be."""
    with running.client() as client:
        client.send("GET /stream HTTP/1.0")
        assert client.rest().endswith(b"\r\n\r\nhello")
    assert running.application.watchers == []


def test_who_asks_for_another_protocol_is_served_without_and_once(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    upgrades = [("h2c", "Connection: Upgrade, HTTP2-Settings"), ("websocket", "Connection: Upgrade")]
    with caplog.at_level(logging.WARNING):
        for name, connection in upgrades:
            with running.client() as client:
                second = b"GET /echo HTTP/1.1\r\nHost: test\r\n\r\n"
                client.send("GET /echo HTTP/1.1", HOST, connection, f"Upgrade: {name}", body=second)
                answer = client.rest()
                assert answer.count(b"HTTP/1.1 200") == 1
                assert b"connection: close" in answer.lower()
        with running.client() as client:
            client.send("GET /stream HTTP/1.1", HOST, upgrades[0][1], "Upgrade: h2c")
            client.until(HELLO)
    assert caplog.messages == []


def test_head_and_connection_close_are_answered_as_ever(running: Running) -> None:
    with running.client() as client:
        client.send("HEAD /bare HTTP/1.1", HOST)
        assert b"transfer-encoding" not in client.until(b"\r\n\r\n").lower()
        client.send("GET /bare HTTP/1.1", HOST, "Connection: close")
        assert client.rest().endswith(b"\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize("text", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n"])
def test_what_is_no_http_1_is_refused(running: Running, text: bytes) -> None:
    with running.client() as client:
        client.connection.sendall(text)
        assert client.rest().startswith(b"HTTP/1.1 400")
