"""Events of the past are published once more, after somebody has said so in words."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from core.log.append import Appender
from core.log.entry import decode
from core.log.errors import LogUnavailableError
from core.log.keys import Keys
from core.log.read import read_entries
from pipai_contracts.envelope import Envelope
from pipai_contracts.publish import Published
from pipai_contracts.record import BEGINNING, Record
from tests.admin.conftest import Admin
from tests.core.telling import notice, step
from tests.projector.conftest import Deployment

_SINCE = (datetime.now(UTC) - timedelta(days=1)).isoformat()
_TO = (datetime.now(UTC) + timedelta(days=1)).isoformat()
_RANGE = ("--from", _SINCE, "--to", _TO)


async def _events(deployment: Deployment, name: str = "workflow:progress") -> list[Record]:
    source = deployment.source(name)
    return [decode(source, entry) for entry in await read_entries(deployment.redis, source, after=BEGINNING, count=100)]


async def _publish(deployment: Deployment) -> None:
    async with deployment.projecting():
        told = [step(10).by("ada"), step(50).by("ada"), step(20, of="other"), notice("n", of="bob")]
        await deployment.publish(*told)
        order = Envelope.model_validate({**dict(step(70).envelope("mine")), "correlation_id": "order 7"})
        await deployment.appender.append([order])
        await deployment.settled()


async def test_without_the_words_it_says_what_would_be_published_and_publishes_nothing(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    await _publish(deployment)
    assert await admin("republish", "--kind", "workflow", *_RANGE) == 0
    said = capsys.readouterr().out
    assert "4 events of 2 topics" in said
    assert "4 workflow_progress" in said
    assert "3 of workflow:w" in said
    assert "--confirm 'republish 4 events'\n" in said
    assert await admin("republish", "--kind", "workflow", *_RANGE, "--confirm", "republish 5 events") == 2
    assert "has to be 'republish 4 events'" in capsys.readouterr().err
    assert len(await _events(deployment)) == 4
    assert not await deployment.redis.exists(deployment.keys.audit)


async def test_with_them_each_is_a_new_event_that_names_the_old_one(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    await _publish(deployment)
    before = await _events(deployment)
    confirmed = (*("--id", "w"), *_RANGE, "--confirm", "republish 3 events")
    assert await admin("republish", *confirmed) == 0
    assert "3 events published" in capsys.readouterr().out
    new = (await _events(deployment))[len(before) :]
    old = [record for record in before if record.envelope.topic.id == "w"]
    assert [record.data for record in new] == [record.data for record in old]
    assert [record.envelope.causation_id for record in new] == [record.envelope.event_id for record in old]
    assert [record.envelope.correlation_id for record in new] == [None, None, "order 7"]
    assert {record.envelope.user_id for record in new} == {"ada"}
    assert not {record.envelope.event_id for record in new} & {record.envelope.event_id for record in before}
    async with deployment.projecting():
        await deployment.settled()


async def test_a_command_that_was_cut_short_is_repeated_and_publishes_the_rest(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await _publish(deployment)
    until = datetime.now(UTC).isoformat()
    command = ("republish", "--from", _SINCE, "--to", until, "--confirm", "republish 5 events")
    monkeypatch.setattr("services.admin.republish.MAX_PER_CALL", 2)
    append, calls = Appender.append, 0

    async def cut_short(appender: Appender, envelopes: list[Envelope]) -> list[Published]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise LogUnavailableError("cut short")
        return await append(appender, envelopes)

    with monkeypatch.context() as patched:
        patched.setattr(Appender, "append", cut_short)
        assert await admin(*command) == 2
    assert await admin(*command) == 0
    assert "3 events published, 2 were already" in capsys.readouterr().out
    assert len(await _events(deployment)) == 8


async def test_who_did_it_when_and_what_came_of_it_is_in_the_audit_log(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    await _publish(deployment)
    await admin("republish", "--type", "notification", *_RANGE, "--confirm", "republish 1 event")
    capsys.readouterr()
    assert await admin("audit", "--json") == 0
    begun, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (begun["action"], begun["what"]["events"], begun["of"]) == ("republish", 1, None)
    assert begun["what"]["wanted"]["type"] == "notification"
    assert re.fullmatch(r".+@.+", begun["by"])
    assert (done["of"], done["what"]) == (begun["id"], {"published": 1, "published before": 0})
    assert await admin("audit") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


async def test_more_than_is_published_in_one_go_is_refused(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.admin.republish.MOST", 3)
    await _publish(deployment)
    assert await admin("republish", *_RANGE, "--confirm", "republish 5 events") == 2
    assert "choose fewer" in capsys.readouterr().err


async def test_what_is_in_no_view_is_not_published_again(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    await _publish(deployment)
    await deployment.redis.xadd(deployment.source().key, {"tenant": "default", "topic": "workflow:w", "x": "y"})
    assert await admin("republish", "--id", "w", *_RANGE) == 0
    said = capsys.readouterr().out
    assert "3 events of 1 topic\n" in said
    assert "1 left out" in said


def test_the_audit_log_is_bounded_and_stays() -> None:
    keys = Keys()
    assert keys.is_permanent(keys.audit)
