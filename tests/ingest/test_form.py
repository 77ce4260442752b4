"""Reading a form as it arrives, however the network cuts it."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.form import (
    MAX_FIELD_BYTES,
    FieldError,
    FormError,
    FormTooLargeError,
    MalformedFormError,
    UploadForm,
    boundary_of,
)

CONTENT = b"\r\n--almost\r\n--b not yet\r\n" + bytes(range(256))
FORM = (
    b'--b\r\ncontent-disposition: form-data; name="user_id"\r\n\r\nd\xc3\xb6rte\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a b.pdf"\r\n'
    b"Content-Type: application/pdf\r\n\r\n" + CONTENT.replace(b"\r\n--b not", b"\r\n--c not") + b"\r\n"
    b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\n\r\n'
    b"--b--\r\n"
)
FILE = CONTENT.replace(b"\r\n--b not", b"\r\n--c not")


async def _in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _form(body: bytes, size: int = 7, max_bytes: int = 10_000) -> UploadForm:
    return UploadForm(_in_pieces(body, size), b"b", max_bytes)


async def _read_all(form: UploadForm) -> bytes:
    head = await form.next_file()
    content = b"".join([chunk async for chunk in form.file_bytes()]) if head else b""
    assert await form.next_file() is None
    return content


@given(st.integers(1, len(FORM)))
async def test_fields_before_and_after_the_file_are_read_whatever_the_pieces(size: int) -> None:
    form = _form(FORM, size)

    head = await form.next_file()
    assert head is not None
    assert (head.name, head.filename, head.content_type) == ("file", "a b.pdf", "application/pdf")
    assert form.fields == {"user_id": "dörte"}
    assert b"".join([chunk async for chunk in form.file_bytes()]) == FILE
    assert await form.next_file() is None
    assert form.fields == {"user_id": "dörte", "note": ""}


@given(st.integers(1, len(FORM) - 6))
async def test_a_form_that_ends_too_early_is_never_taken_for_a_whole_one(length: int) -> None:
    with pytest.raises(MalformedFormError):
        await _read_all(_form(FORM[:length]))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedFormError),
        (b"nonsense", MalformedFormError),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", MalformedFormError),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\xff\r\n--b--\r\n', FieldError),
        (
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
            + b"y" * (MAX_FIELD_BYTES + 1)
            + b"\r\n--b--\r\n",
            FieldError,
        ),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 2 + b"--b--\r\n", FieldError),
        (FORM + b" " * 10_000, FormTooLargeError),
    ],
    ids=["empty", "no form", "no name", "no UTF-8", "long field", "field twice", "long epilogue"],
)
async def test_a_form_that_is_not_right_is_refused(body: bytes, error: type[FormError]) -> None:
    with pytest.raises(error):
        await _read_all(_form(body))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/form-data; boundary="b c"', b"b c"),
        ("Multipart/Form-Data; boundary=b", b"b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/mixed; boundary=b", None),
        ("application/json", None),
        ("", None),
    ],
)
def test_the_boundary_is_found_in_forms_only(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
