"""The server as each caller sees it, made once and kept while they ask.

Most of what a limited read would cost beyond an open one is putting together a repository and a searcher that hold to
the caller's policy. The same caller with the same policy gets the same; a new policy, as soon as one is in force, is
another object and so another view.
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.access.entrance import Entrance
from fhir_server.interactions.context import Context
from fhir_server.model.access import AccessPolicy, Caller, Identity

#: Views that are kept; the one that was made first goes first.
KEPT = 2_000


class View:
    """The server as one caller sees it, and the same for a change whose record is durable before its answer."""

    __slots__ = ("context", "unawaited")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.unawaited = context.unawaited()


class Views:
    """Gives the context of a caller."""

    def __init__(self, context: Context, entrance: Entrance) -> None:
        self._context = context
        self._entrance = entrance
        self._open = View(context)
        self._kept: dict[tuple[int, int], tuple[Identity, AccessPolicy, View]] = {}

    @property
    def open(self) -> View:
        """The server where nobody is asked who they are."""
        return self._open

    def of(self, caller: Caller) -> View:
        """The server as somebody sees it."""
        key = (id(caller.identity), id(caller.policy))
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            # Holding both keeps their ids their own.
            known = self._kept[key] = (caller.identity, caller.policy, View(self._made(caller)))
        return known[2]

    def _made(self, caller: Caller) -> Context:
        if caller.policy.everything:
            return replace(self._context, caller=caller)
        return self._context.under(caller, self._entrance.store_for(caller.policy))
