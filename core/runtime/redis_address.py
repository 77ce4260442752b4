"""What a REDIS_URL says: one server, a Cluster, or a master that sentinels know."""

from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import SSLConnection, parse_url

Shape = Literal["single", "cluster", "sentinel"]

_SHAPES: Final[dict[str, Shape]] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
}
_PORTS: Final[dict[Shape, int]] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_OF_SENTINELS: Final = {"sentinel_username": "username", "sentinel_password": "password"}


class RedisAddressError(ValueError):
    """A REDIS_URL nobody can connect with; the message says what is wrong and never repeats the password."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A REDIS_URL taken apart.

    ``nodes``: the given servers of a Cluster, or the sentinels. ``options``: what every connection needs (user,
    password, db, TLS), as redis-py names it. ``sentinel_options``: the same for connections to sentinels.
    """

    shape: Shape
    nodes: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def parse_address(address: str) -> RedisAddress:
    """Take a REDIS_URL apart.

    Forms: ``redis://host:port/db``, ``redis+cluster://host:port,host:port``, and
    ``redis+sentinel://host:port,host:port/service/db``; ``rediss`` instead of ``redis`` for TLS; ``user:password@``
    before the hosts; TLS files and the sentinels' own password (``sentinel_password``) after a ``?``.

    Raises:
        RedisAddressError: it is none of these.
    """
    scheme, netloc, path, asked = _parts(address)
    shape = _SHAPES.get(scheme)
    if shape is None:
        raise RedisAddressError(f"REDIS_URL begins with {scheme}://; it can be {', '.join(sorted(_SHAPES))}")
    if shape == "single":
        return RedisAddress(shape, (), "", {}, {})
    login, _, hosts = netloc.rpartition("@")
    nodes = tuple(_node(host, _PORTS[shape]) for host in hosts.split(","))
    service, _, db = path.strip("/").partition("/")
    if shape == "cluster" and service.strip("0"):
        raise RedisAddressError("REDIS_URL names a database, and a Cluster has only 0: leave the path out")
    if shape == "sentinel" and not service:
        raise RedisAddressError("REDIS_URL lacks the service the sentinels watch: redis+sentinel://host:port/service")
    query = parse_qsl(asked)
    own = [(name, value) for name, value in query if name not in _OF_SENTINELS]
    one = f"{login}@_" if login else "_"
    options = _options(urlunsplit((scheme.partition("+")[0], one, f"/{db}" if db else "", urlencode(own), "")))
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel = {_OF_SENTINELS[name]: value for name, value in query if name in _OF_SENTINELS}
    return RedisAddress(shape, nodes, service, options, {**tls, **sentinel})


def _parts(address: str) -> tuple[str, str, str, str]:
    """Scheme, user and hosts, path and query. Python's own splitting refuses some lists of hosts, by its version."""
    scheme, _, rest = address.partition("://")
    rest, _, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    return scheme.lower(), netloc, slash + path, query


def safe_address(address: str) -> str:
    """The address without user, password and query, for logs and tables; its scheme alone where these are unclear."""
    scheme, _, rest = address.partition("://")
    where, _, query = rest.partition("?")
    return f"{scheme}://" if "@" in query else f"{scheme}://{where.rpartition('@')[2]}"


def _node(host: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        if parts.hostname:
            return parts.hostname, parts.port or port
    except ValueError:
        pass
    raise RedisAddressError(f"REDIS_URL has {host!r} where host:port should be")


def _options(url: str) -> dict[str, Any]:
    """Connection options of a URL of one server, whose host does not count."""
    try:
        options: dict[str, Any] = {**parse_url(url)}
    except ValueError as error:
        raise RedisAddressError(f"REDIS_URL: {error}") from error
    options.pop("host", None)
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return options
