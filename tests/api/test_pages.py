"""The demo page, the probes and what the api tells of itself."""

import re
from typing import cast

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from core.log.keys import Keys
from tests.api.conftest import Api, Producer, Serve
from tests.conftest import wait_until


async def test_the_demo_page_and_everything_it_loads_are_served(api: Api) -> None:
    page = await api.client.get("/demo/streaming")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assets = re.findall(r'(?:href|src)="(/demo/assets/[^"]+)"', page.text)
    assert {path.rpartition(".")[2] for path in assets} >= {"js", "css"}
    for path in assets:
        assert (await api.client.get(path)).status_code == 200, path


async def test_the_root_leads_to_the_demo_page(api: Api) -> None:
    answer = await api.client.get("/")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/demo/streaming"


async def test_nothing_but_assets_is_served_beside_it(api: Api) -> None:
    for path in ("/demo/assets/none.js", "/demo/assets/..%2fdemo.py", "/demo/assets/%2e%2e/demo.py"):
        async with api.watching(path) as answer:
            assert answer.status == 404
            assert answer.headers["content-type"] == "application/problem+json"


async def test_the_api_is_ready_once_it_follows_the_change_feed(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.client.get("/livez")).json() == {"status": "alive"}

        async def ready() -> bool:
            return (await api.client.get("/readyz")).status_code == 200

        await wait_until(ready)
        assert (await api.client.get("/readyz")).json() == {"status": "ready"}


async def test_the_api_is_described(api: Api) -> None:
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    assert {"/stream/workflow/{workflow_id}", "/stream/health", "/views/{kind}/{resource_id}"} <= set(paths)
    assert "/demo/streaming" not in paths


def _sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_streams_and_deliveries_are_counted(api: Api, producer: Producer) -> None:
    active, delivered = _sample("pipai_active_streams"), _sample("pipai_delivered_events_total", kind="workflow")
    async with api.watching("/stream/workflow/w") as one, api.watching("/stream/workflow/w") as two:
        await one.next()
        await two.next()
        assert _sample("pipai_active_streams") == active + 2
        await producer.progress("w", 1, 2)
        await two.until(lambda frame: frame.pos == 2)
        assert _sample("pipai_delivered_events_total", kind="workflow") == delivered + 4
    await wait_until(lambda: _sample("pipai_active_streams") == active)


async def test_the_api_leaves_only_bounded_keys(serve: Serve, redis_url: str, key_prefix: str) -> None:
    async with serve() as api, api.watching("/stream/workflow/nobody") as stream, Redis.from_url(redis_url) as redis:
        await stream.next()
        await wait_until(lambda: redis.exists(Keys(key_prefix).connections))
        found = redis.scan_iter(match=f"*{key_prefix}*")  # pyright: ignore[reportUnknownVariableType]
        keys = [cast("bytes", key).decode() async for key in found]  # pyright: ignore[reportUnknownVariableType]
        assert sorted(keys) == sorted([Keys(key_prefix).connections, Keys(key_prefix).layout])
        assert 0 < await redis.ttl(Keys(key_prefix).connections) <= 60
