"""docker-compose.yml and what belongs to it, as the tests read them."""

from pathlib import Path
from typing import Any, Final, cast

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
OWN_IMAGE: Final = "pipai-stream"

Service = dict[str, Any]


def read_yaml(path: str) -> dict[str, Any]:
    """A YAML file of the repository, with its anchors resolved."""
    return cast("dict[str, Any]", yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))


def services() -> dict[str, Service]:
    """Every service of docker-compose.yml."""
    return read_yaml("docker-compose.yml")["services"]


def own_services() -> dict[str, Service]:
    """The services that run our code."""
    return {name: service for name, service in services().items() if service["image"] == OWN_IMAGE}


def environment(service: Service) -> dict[str, str]:
    """What the container finds in its environment."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}
