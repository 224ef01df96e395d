"""What the pages of administrators share: who gets in, and long lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from smart_auth.model import Session
from smart_auth.pages.page import PageError, Pages
from smart_auth.parts import REFUSED

Row = TypeVar("Row")

ON_A_PAGE: Final = 50


class AdministratorPages:
    """Pages for administrators alone."""

    def __init__(self, pages: Pages, kind: str, refusal: str) -> None:
        """
        Args:
            kind, refusal: what the audit trail is told of others who come here
        """
        self._pages = pages
        self._kind = kind
        self._refusal = refusal

    async def _administrator(self, request: Request) -> Session:
        """The session of an administrator.

        Raises:
            PageError: 403; somebody else is signed in.
        """
        session = await self._pages.signed_in(request)
        if session.account.role != "administrator":
            await self._pages.parts.note(
                self._kind,
                self._refusal,
                self._pages.visit(request),
                outcome=REFUSED,
                account_id=session.account.id,
            )
            raise PageError(403, "For administrators", "This page is for administrators only.")
        return session


def page_of(
    rows: Sequence[Row], address: str, filters: Mapping[str, str], name: Callable[[Row], str]
) -> tuple[list[Row], str]:
    """The rows of a page, and the address of the next one; empty where there is none.

    Args:
        rows: one more than `ON_A_PAGE` where there are more
        address: of the list
        filters: what the list was asked for, which the next page is, too
        name: of a row, behind which the next page goes on (`after`)
    """
    page = list(rows[:ON_A_PAGE])
    if len(rows) <= ON_A_PAGE:
        return page, ""
    query = {key: value for key, value in filters.items() if value} | {"after": name(page[-1])}
    return page, f"{address}?{urlencode(query)}"
