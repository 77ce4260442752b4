"""``pipai-admin dead``: list, show, redrive and purge dead letters, and park events that hold up their source."""

import argparse
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pydantic import ValidationError

from core.log.errors import LogUnavailableError, UnknownLetterError, UnknownSourceError
from core.log.keys import Source
from core.log.letters import Letters, place_of
from core.log.redrive import Resolved, Resolver, Tally
from pipai_contracts.dead_letters import DeadLetter, LetterFilter
from services.admin.command import DONE, FOUND, Command, Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.waiting import list_waiting, park_waiting
from services.admin.words import counted, plain

_PAGE: Final = 200
_LISTED: Final = 100
_NO_LIMIT: Final = sys.maxsize
_MAX_CELL: Final = 60
_DONE_WORD: Final = {"redrive": "redriven", "purge": "purged"}
_FILTER: Final = {
    "source": "source",
    "type": "type",
    "topic": "topic",
    "error": "error",
    "before": "parked_before",
    "after": "parked_after",
}
"""Option → field of the filter."""


def _add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|redrive|purge|waiting|park")
    listing = actions.add_parser("list", help="the letters that fit, oldest first within each source")
    _add_filter(listing)
    listing.add_argument("--limit", type=_count, default=_LISTED, help=f"at most so many; {_LISTED} unless told")
    listing.add_argument("--all", action="store_true", help="however many there are")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = actions.add_parser("show", help="one letter with its whole event")
    show.add_argument("place", help="as list shows it, like workflow:progress/1735689600000-0")
    show.add_argument("--json", action="store_true", help="as a JSON object")
    for name, what in (("redrive", "append the events again and delete their letters"), ("purge", "delete letters")):
        action = actions.add_parser(name, help=what)
        action.add_argument("places", nargs="*", metavar="place", help="these letters, as list shows them")
        _add_filter(action)
        action.add_argument("--all", action="store_true", help="every letter of every source; needs --yes")
        action.add_argument("--yes", action="store_true", help="do it, rather than say how many letters it would be")
        action.add_argument("--limit", type=_count, default=_NO_LIMIT, help="at most so many")
        action.add_argument("--json", action="store_true", help="the counts as a JSON object")
    actions.add_parser("waiting", help="events of a newer build than this one: their sources wait for an upgrade")
    park = actions.add_parser("park", help="make dead letters of events that wait, so that their sources go on")
    park.add_argument("places", nargs="*", metavar="place", help="these events, as waiting shows them")
    park.add_argument("--all", action="store_true", help="every event that waits; needs --yes")
    park.add_argument("--yes", action="store_true", help="do it, rather than say how many events it would be")


def _add_filter(parser: ArgumentParser) -> None:
    parser.add_argument("--source", help="of this source stream, or of one partition of it")
    parser.add_argument("--type", help="with events of this type")
    parser.add_argument("--topic", help="with events of this topic, like workflow:my-workflow")
    parser.add_argument("--error", help="whose error has this text in it")
    parser.add_argument("--before", metavar="TIME", help="parked before, like 2025-01-01T00:00:00Z")
    parser.add_argument("--after", metavar="TIME", help="parked after")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


async def _carry_out(deployment: Deployment, chosen: Namespace) -> int:
    actions: dict[str, Callable[[Deployment, Namespace], Awaitable[int]]] = {
        "list": _list,
        "show": _show,
        "redrive": _resolve,
        "purge": _resolve,
        "waiting": list_waiting,
        "park": park_waiting,
    }
    try:
        return await actions[chosen.action](deployment, chosen)
    except (UnknownLetterError, UnknownSourceError) as error:
        raise RefusedError(str(error)) from error


DEAD: Final = Command(
    "dead", "list, show, redrive or purge dead letters; end waits for a newer build", _add_arguments, _carry_out
)


async def _list(deployment: Deployment, chosen: Namespace) -> int:
    letters, wanted = Letters(deployment.redis, deployment.keys), _filter_of(chosen)
    after, left = None, _NO_LIMIT if chosen.all else chosen.limit
    shown = 0
    while left:
        page = await letters.page(wanted, after=after, limit=min(left, _PAGE))
        if after is None and not chosen.json:
            sys.stdout.write(_row("LETTER", "PARKED", "TRIED", "TYPE", "TOPIC", "ERROR"))
        sys.stdout.writelines(_line_of(letter, as_json=chosen.json) for letter in page.letters)
        after, left, shown = page.next, left - len(page.letters), shown + len(page.letters)
        if after is None:
            if not shown:
                sys.stderr.write("no dead letter is like that\n" if wanted != LetterFilter() else "no dead letters\n")
            return DONE
    rest = await letters.page(wanted, after=after, limit=1)
    if rest.letters or rest.next:
        sys.stderr.write(f"these are the first {chosen.limit}; --limit or --all shows more\n")
    return DONE


async def _show(deployment: Deployment, chosen: Namespace) -> int:
    letters = Letters(deployment.redis, deployment.keys)
    source, letter_id = _place(letters, chosen.place)
    letter = await letters.find(source, letter_id)
    if chosen.json:
        sys.stdout.write(letter.model_dump_json() + "\n")
        return DONE
    told = letter.model_dump(include={"stream_id", "parked", "attempts", "error", "redriven_from"}, exclude_none=True)
    sys.stdout.write(f"{place_of(letter.source, letter.id)}\n")
    sys.stdout.writelines(f"{name}: {plain(str(value))}\n" for name, value in told.items())
    sys.stdout.write("event:\n")
    sys.stdout.writelines(f"  {plain(name)}: {plain(value)}\n" for name, value in (letter.fields or {}).items())
    return DONE


async def _resolve(deployment: Deployment, chosen: Namespace) -> int:
    """Redrive or purge: the letters that are named, or those that fit. Exit code 1: some could not be."""
    letters = Letters(deployment.redis, deployment.keys)
    wanted = _filter_of(chosen)
    if sum((bool(chosen.places), wanted != LetterFilter(), chosen.all)) != 1:
        raise RefusedError("say which letters: their places, or a filter like --source, or --all")
    word = _DONE_WORD[chosen.action]
    if chosen.all and not chosen.yes:
        raise RefusedError(f"{counted(await letters.count(wanted), 'letter')} would be {word}; add --yes to do it")
    resolver = Resolver(deployment.redis, deployment.keys, owner_ttl=deployment.settings.view_ttl)
    try:
        if chosen.places:
            resolved = await _resolve_named(
                resolver, [_place(letters, place) for place in chosen.places], chosen.action
            )
        else:
            by_filter = resolver.redrive if chosen.action == "redrive" else resolver.purge
            resolved = await by_filter(wanted, limit=chosen.limit, step=Progress(f"letters {word}").step)
    except LogUnavailableError as error:
        raise LogUnavailableError(f"{error}; what was {word} by now stays so, run it again to go on") from error
    _tell(resolved, word, as_json=chosen.json)
    return FOUND if resolved.total.refused or resolved.total.gone else DONE


async def _resolve_named(resolver: Resolver, places: Sequence[tuple[Source, str]], action: str) -> Resolved:
    by_name = resolver.redrive_named if action == "redrive" else resolver.purge_named
    by_source: dict[Source, list[str]] = {}
    for source, letter_id in places:
        by_source.setdefault(source, []).append(letter_id)
    return Resolved({source.name: await by_name(source, ids) for source, ids in by_source.items()}, more=False)


def _filter_of(chosen: Namespace) -> LetterFilter:
    given = {field: getattr(chosen, option) for option, field in _FILTER.items()}
    try:
        return LetterFilter.model_validate(given)
    except ValidationError as error:
        options = {field: option for option, field in _FILTER.items()}
        faults = [
            f"--{options[str(fault['loc'][0])]}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise RefusedError("; ".join(faults)) from error


def _place(letters: Letters, place: str) -> tuple[Source, str]:
    try:
        source, letter_id = letters.parse_place(place)
    except ValueError as error:
        raise RefusedError(f"{place}: {error}") from error
    return source, str(letter_id)


def _tell(resolved: Resolved, word: str, *, as_json: bool) -> None:
    if as_json:
        told = {name: _counts(tally, word) for name, tally in resolved.by_source.items()}
        sys.stdout.write(json.dumps({**_counts(resolved.total, word), "more": resolved.more, "sources": told}) + "\n")
        return
    done, refused, gone, already = resolved.total
    sys.stdout.write(f"{done} {word}\n")
    if already:
        sys.stdout.write(f"{already} redriven by somebody else just before\n")
    if refused:
        sys.stdout.write(
            f"{refused} refused: their events have more fields than can be copied, or a version this build cannot "
            f"read; purge them\n"
        )
    if gone:
        sys.stdout.write(f"{gone} not there: redriven, purged or pushed out before\n")
    if resolved.more:
        sys.stdout.write("more are left, beyond --limit\n")


def _counts(tally: Tally, word: str) -> dict[str, int]:
    counts = {word: tally.done, "refused": tally.refused, "gone": tally.gone}
    return {**counts, "already": tally.already} if word == "redriven" else counts


def _line_of(letter: DeadLetter, *, as_json: bool) -> str:
    if as_json:
        return letter.model_dump_json(exclude={"fields"}) + "\n"
    place = place_of(letter.source, letter.id)
    return _row(place, letter.parked, str(letter.attempts), letter.type or "-", letter.topic or "-", letter.error)


def _row(place: str, parked: str, tried: str, event_type: str, topic: str, error: str) -> str:
    cells = [_cut(text) for text in (event_type, topic, error)]
    return f"{place:<36} {parked:<24} {tried:>5}  {cells[0]:<17} {cells[1]:<24} {cells[2]}".rstrip() + "\n"


def _cut(text: str) -> str:
    cell = plain(text)
    return cell if len(cell) <= _MAX_CELL else cell[: _MAX_CELL - 1] + "…"
