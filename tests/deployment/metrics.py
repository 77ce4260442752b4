"""Every metric the code declares, as its sources have it, and what a query says about metrics."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from tests.deployment.compose import ROOT

SUFFIXES: Final = {"Histogram": ("_bucket", "_sum", "_count"), "Counter": ("",), "Gauge": ("",)}
OF_THE_TARGET: Final = {"job", "instance"}
"""Labels Prometheus adds to every series."""

_SELECTOR: Final = re.compile(r"(?P<name>\bpipai_\w+|\bup)\b(?:\{(?P<matchers>[^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


class Metric(NamedTuple):
    """A metric: its kind (Counter, Gauge, Histogram), its name as declared, its labels."""

    kind: str
    name: str
    labels: frozenset[str]


@cache
def sources() -> str:
    """The text of all modules of ours."""
    files = sorted(path for folder in ("core", "services") for path in (ROOT / folder).rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@cache
def declared() -> dict[str, Metric]:
    """Metrics by their names."""
    return {metric.name: metric for metric in _declarations()}


def _declarations() -> Iterator[Metric]:
    for node in ast.walk(ast.parse(sources())):
        match node:
            case ast.Call(
                func=ast.Name(id="Counter" | "Gauge" | "Histogram" as kind), args=[ast.Constant(value), *rest]
            ):
                lists = [argument for argument in rest if isinstance(argument, ast.List)]
                labels = [item.value for found in lists for item in found.elts if isinstance(item, ast.Constant)]
                yield Metric(kind, str(value), frozenset(map(str, labels)))
            case _:
                pass


def series() -> dict[str, Metric]:
    """Metrics by the names under which Prometheus has them: a histogram has several."""
    return {f"{metric.name}{suffix}": metric for metric in declared().values() for suffix in SUFFIXES[metric.kind]}


def asked_for(query: str) -> set[str]:
    """The names of the metrics a query is about, as declared."""
    known = series()
    return {known[name].name if name in known else name for name in re.findall(r"\bpipai_\w+", query)}


def faults_in(query: str) -> list[str]:
    """What a query asks for that no process tells; nothing when all of it exists."""
    known = series()
    faults: list[str] = []
    has: set[str] = set(OF_THE_TARGET)
    for found in _SELECTOR.finditer(query):
        name = found["name"]
        if name != "up" and name not in known:
            faults.append(f"there is no {name}")
            continue
        labels = (known[name].labels if name != "up" else frozenset[str]()) | OF_THE_TARGET
        has |= labels
        for label, value in _MATCHER.findall(found["matchers"] or ""):
            if label not in labels:
                faults.append(f"{name} has no label {label}")
            elif label not in OF_THE_TARGET and f'"{value}"' not in sources():
                faults.append(f"nothing in the code is called {value!r}, as {name} is to have it")
    if "_bucket" in query:
        has.add("le")
    grouped = {label for found in re.findall(r"by \(([^)]*)\)", query) for label in re.findall(r"\w+", found)}
    return faults + [f"no metric of the query has the label {label}" for label in sorted(grouped - has)]
