"""Connecting to Temporal the way its own SDK is configured."""

import asyncio
from typing import Any, Final, cast

from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig, ClientConnectConfig

from core.runtime.settings import Settings

CALL_TIMEOUT: Final = 2.0
"""Seconds for one call. The SDK's own timeout is per attempt and does not bound the retries."""


def temporal_target(settings: Settings) -> ClientConnectConfig | None:
    """How to reach Temporal: the environment or profile the SDK reads; None when nothing says where it is."""
    config = ClientConfig.load_client_connect_config()
    if settings.temporal_address:
        config["target_host"] = settings.temporal_address
    return config if config.get("target_host") else None


async def connect_temporal(target: ClientConnectConfig, *, lazy: bool = False) -> Client:
    """A client for ``target``; a lazy one connects at its first call and cannot run workers.

    Raises:
        RuntimeError: the server cannot be reached (not for a lazy client).
    """
    options = cast("dict[str, Any]", target)
    return await Client.connect(data_converter=pydantic_data_converter, lazy=lazy, **options)


class LazyTemporal:
    """The Temporal of a deployment, or none. Made before the event loop runs; connects at the first call."""

    def __init__(self, target: ClientConnectConfig | None) -> None:
        self._target = target
        self._client: Client | None = None

    @property
    def configured(self) -> bool:
        """Whether anything says where Temporal is."""
        return self._target is not None

    async def client(self) -> Client | None:
        """The client; None when nothing says where Temporal is. Making it contacts nobody."""
        if self._client is None and self._target is not None:
            self._client = await connect_temporal(self._target, lazy=True)
        return self._client


async def temporal_reachable(client: Client, seconds: float = CALL_TIMEOUT) -> bool:
    """Whether the server answers within ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await client.workflow_service.get_system_info(GetSystemInfoRequest())
    except Exception:  # noqa: BLE001 - whatever the SDK raises, the answer is no
        return False
    return True
