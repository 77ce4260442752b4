"""What the documents name is there: files, pages and their sections."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bench", "clients", "contracts", "core", "docs", "ops", "services", "tests")
FILES = [
    path
    for start in (ROOT.glob("*"), *((ROOT / name).rglob("*") for name in FOLDERS))
    for path in start
    if path.is_file()
]
DOCUMENTS = sorted(path for path in FILES if path.suffix == ".md")
DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))

each_document = pytest.mark.parametrize("document", [pytest.param(path, id=path.name) for path in DOCUMENTS])


def is_there(name: str) -> bool:
    """Whether a file or a folder of ours is called so; `…` stands for what is left out, a bare name for any folder."""
    if name.endswith("/"):
        return (ROOT / name).is_dir()
    pattern = re.compile(re.escape(name).replace("…", ".*"))
    relative = [path.relative_to(ROOT).as_posix() for path in FILES]
    if "/" in name:
        return any(pattern.fullmatch(path) for path in relative)
    return any(pattern.fullmatch(path.rpartition("/")[2]) for path in relative)


def anchors(document: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_file_and_folder_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = set(re.findall(r"`([\w/.…-]+\.(?:py|lua|md|yml|conf|json|toml))`", text))
    folders = {name for name in re.findall(r"`(\w[\w/-]*/)`", text) if name.split("/")[0] in FOLDERS}
    assert sorted(name for name in files | folders if not is_there(name)) == []


@pytest.mark.parametrize(
    "room",
    ["core", *(f"services/{name}" for name in ("admin", "api", "archiver", "ingest", "projector", "standalone"))],
)
def test_the_architecture_names_every_module(room: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.(?:py|lua))`", text)}
    modules = {path.name for path in (ROOT / room).rglob("*.*") if path.suffix in {".py", ".lua"}}
    assert sorted(modules - named - {"__init__.py"}) == []


def test_the_architecture_names_every_key_of_redis() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    keys = (ROOT / "core/log/keys.py").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:pip-ai|\{[^`}]*\}):([a-z-]+)[^`]*`", text))
    assert sorted(set(re.findall(r"(?:prefix|companion)\}:([a-z-]+)", keys)) - named) == []


@each_document
def test_every_link_leads_to_a_page_and_a_section_that_are_there(document: Path) -> None:
    lost: list[str] = []
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", document.read_text(encoding="utf-8")):
        page, _, anchor = link.partition("#")
        target = (document.parent / page) if page else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_a_name_that_is_gone_is_noticed() -> None:
    assert is_there("core/log/append.py")
    assert is_there("append.lua")
    assert is_there("contracts/…/publish.py")
    assert not is_there("core/log/gone.py")
    assert not is_there("gone.py")
    assert not is_there("core/gone/")


@pytest.mark.parametrize("decision", [pytest.param(path, id=path.name[:4]) for path in DECISIONS])
def test_a_decision_has_its_number_and_says_why_what_and_what_follows(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    assert re.match(rf"# {int(decision.name[:4])}\. \w", text)
    parts = [text.find(f"\n**{part}.**") for part in ("Context", "Decision", "Consequences")]
    assert -1 not in parts
    assert parts == sorted(parts)
    assert "\n## " not in text
