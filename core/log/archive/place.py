"""Where a deployment's archive is: what its settings say, and the things they name."""

from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import unquote, urlsplit

from obstore.store import from_url
from pydantic import Field

from core.log.archive.archive import Archive
from core.log.archive.bucket import BucketStore
from core.log.archive.folder import FolderStore
from core.log.archive.parquet import Parquet
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.archive.store import SegmentStore
from core.runtime.settings import Settings

if TYPE_CHECKING:
    from obstore.store import RetryConfig

OFF: Final = "off"

_RETRIES: Final["RetryConfig"] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""A bucket that is away is said to be within seconds; who asked for it tries again, or tells.

Options of the HTTP client would take the place of all those that the environment has (``AWS_ALLOW_HTTP``, a proxy).
"""

ArchiveUrl = Annotated[
    str,
    Field(
        description="Where every event is archived: file:///directory, s3://bucket/prefix, gs:// or az://; in a folder "
        "called KEY_PREFIX. Empty means .pipai/archive below the current directory; off means that there is no archive."
    ),
]
"""The setting ``ARCHIVE_URL``, the same for every service that writes or reads the archive."""


class ArchiveSettings(Settings):
    """What everybody needs who writes or reads the archive."""

    archive_url: ArchiveUrl = ""
    archive_spool: Annotated[
        str,
        Field(
            description="Directory on the archiver's disk where segments wait for the archive; who serves history "
            "reads it too, if it is on the same machine. Empty means .pipai/archive-spool below the current directory."
        ),
    ] = ""

    def open_archive(self, spooled: Spooled | None = None) -> Archive | None:
        """The archive to read; None where there is none. ``spooled``: see `Archive`.

        Raises:
            ValueError: the URL names no store that is known.
        """
        if self.archive_url == OFF:
            return None
        return Archive(self.open_store(), self.open_spool(), Parquet(_own_folder() / "sorting"), spooled)

    def open_store(self) -> SegmentStore:
        """Where segments are kept for good.

        Raises:
            ValueError: the URL names no store that is known, or says that there is none.
        """
        if self.archive_url == OFF:
            raise ValueError("ARCHIVE_URL is off: there is no archive to write")
        parts = urlsplit(self.archive_url or (Path.cwd() / ".pipai" / "archive").as_uri())
        if parts.scheme == "file":
            return FolderStore(Path(unquote(parts.path)) / self.key_prefix)
        try:
            url = f"{self.archive_url.rstrip('/')}/{self.key_prefix}"
            bucket = from_url(url) if parts.scheme == "memory" else from_url(url, retry_config=_RETRIES)
        except Exception as error:
            raise ValueError(f"ARCHIVE_URL {parts.scheme}://… names no store: {error}") from error
        return BucketStore(bucket, _own_folder() / "copies" / self.key_prefix)

    def open_spool(self) -> Spool:
        """Where they wait."""
        return Spool(Path(self.archive_spool or ".pipai/archive-spool").absolute() / self.key_prefix)


def _own_folder() -> Path:
    """For what may be gone at any time."""
    return Path(gettempdir()) / "pipai-history"
