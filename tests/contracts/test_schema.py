"""The JSON Schemas beside the code are those of the code; problems have the standard's shape."""

from pathlib import Path

import pytest

from pipai_contracts import schema
from pipai_contracts.problems import FieldProblem, Problem


def test_the_schema_files_are_those_of_the_models() -> None:
    assert schema.out_of_date() == []


def test_changed_missing_and_left_over_schema_files_are_named(tmp_path: Path) -> None:
    schema.write(tmp_path)
    (tmp_path / "Problem.json").write_text("{}")
    (tmp_path / "Event.json").unlink()
    (tmp_path / "Gone.json").write_text("{}")

    assert schema.out_of_date(tmp_path) == ["Event.json", "Gone.json", "Problem.json"]


def test_writing_leaves_nothing_of_old_models(tmp_path: Path) -> None:
    (tmp_path / "Gone.json").write_text("{}")

    schema.write(tmp_path)

    assert schema.out_of_date(tmp_path) == []


def test_the_check_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--check"]) == 0

    monkeypatch.setattr(schema, "out_of_date", lambda: ["Event.json"])

    assert schema.main(["--check"]) == 1
    assert "Event.json" in capsys.readouterr().err


def test_a_problem_has_the_members_of_the_standard_and_says_where() -> None:
    problem = Problem(
        type="/problems/invalid",
        title="Invalid request",
        status=422,
        detail="1 fault",
        errors=[FieldProblem(where="body.progress", what="is over 100")],
    )

    assert problem.model_dump() == {
        "type": "/problems/invalid",
        "title": "Invalid request",
        "status": 422,
        "detail": "1 fault",
        "errors": [{"where": "body.progress", "what": "is over 100"}],
    }
