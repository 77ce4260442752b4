"""Keeping pages of other origins from posting."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from core.runtime.problems import ProblemError, problem_response


class OwnOriginPosts:
    """ASGI middleware: a browser's POST is taken from pages of this host, and of the origins that are allowed.

    Without this any page somebody visits could upload and publish: a form post asks no permission first, and there is
    no access control yet. Requests without ``Origin`` come from programs and pass.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it (403)."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self._is_own(dict(scope["headers"])):
            problem = ProblemError(
                403,
                "foreign-origin",
                "Pages of this origin may not post here",
                "the Origin header names neither this host nor one of CORS_ORIGINS",
            )
            await problem_response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, headers: Mapping[bytes, bytes]) -> bool:
        sent = headers.get(b"origin")
        if sent is None or "*" in self._allowed:
            return True
        origin = sent.decode("latin-1")
        return origin in self._allowed or urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
