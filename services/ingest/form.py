"""Multipart forms with one file, read as they arrive: nothing is spooled and little is held."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MAX_FIELD_BYTES: Final = 4096
"""Largest value of a field that is not the file."""

OVERHEAD_BYTES: Final = 64 * 1024
"""What a form may have beside its file: boundaries, headers, fields."""


class FormError(Exception):
    """The form cannot be read."""


class MalformedFormError(FormError):
    """The body is no multipart form, or ends in the middle of one."""


class FormTooLargeError(FormError):
    """The form has more bytes than are taken."""


class FieldError(FormError):
    """A field is there twice, or is not what it should be."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name
        self.what = what


@dataclass(frozen=True, slots=True)
class PartHead:
    """Where a part begins. ``filename`` is None for a plain field; it and ``content_type`` are untrusted."""

    name: str
    filename: str | None
    content_type: str | None


class _PartEnd:
    """Where a part ends."""


Piece = PartHead | bytes | _PartEnd


def boundary_of(content_type: str) -> bytes | None:
    """The boundary in a ``multipart/form-data`` content type; None for any other."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind == b"multipart/form-data" else None


class UploadForm:
    """A form of plain fields and one file.

    `next_file` reads the fields before a file, `file_bytes` the file. ``fields`` has the plain fields met so far.
    """

    def __init__(self, body: AsyncIterator[bytes], boundary: bytes, max_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self._body = body
        self._left = max_bytes
        self._pieces: deque[Piece] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": lambda: self._pieces.append(_PartEnd()),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise MalformedFormError(str(error)) from error

    async def next_file(self) -> PartHead | None:
        """Read on to the next file and return its head; None when the form ends without another.

        Raises:
            FormError: the form is malformed or too large, or a field is.
        """
        while (piece := await self._next()) is not None:
            if isinstance(piece, PartHead):
                if piece.filename is not None:
                    return piece
                if piece.name in self.fields:
                    raise FieldError(piece.name, "is there twice")
                self.fields[piece.name] = await self._field_value(piece.name)
        return None

    async def file_bytes(self) -> AsyncIterator[bytes]:
        """The bytes of the file whose head was read last, as they arrive.

        Raises:
            FormError: the form is malformed or too large.
        """
        while isinstance(piece := await self._next(), bytes):
            yield piece

    async def _field_value(self, name: str) -> str:
        value = bytearray()
        while isinstance(piece := await self._next(), bytes):
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise FieldError(name, f"must have at most {MAX_FIELD_BYTES} bytes")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise FieldError(name, "must be UTF-8") from None

    async def _next(self) -> Piece | None:
        while not self._pieces:
            chunk = await anext(self._body, None)
            if chunk is None:
                if not self._ended:
                    raise MalformedFormError("the form ends before its closing boundary")
                return None
            self._feed(chunk)
        return self._pieces.popleft()

    def _feed(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise FormTooLargeError("the form has too many bytes")
        if self._ended:
            return  # what follows the closing boundary means nothing
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedFormError(f"the form is malformed: {error}") from error

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise MalformedFormError("a part of the form has no name")
        filename = options.get(b"filename")
        content_type = self._headers.get(b"content-type")
        self._pieces.append(
            PartHead(
                name=_text(options[b"name"]),
                filename=None if filename is None else _text(filename),
                content_type=None if content_type is None else _text(content_type),
            )
        )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def _text(value: bytes) -> str:
    """Header text: browsers send UTF-8, anything else is shown as best one can."""
    return value.decode("utf-8", errors="replace")
