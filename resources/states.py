"""State machines: which status may follow which, held for every write of a resource type.

A machine is data. The rule that holds it, the diagram in `docs/states.md` and the tests that walk every pair of states
are made from it.

Spec: https://hl7.org/fhir/R4/workflow.html#statemachine
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write

#: A record that should not have been made can be taken back from any state.
MISTAKE = "entered-in-error"


@dataclass(frozen=True, slots=True)
class StateMachine:
    """The states of one resource type.

    Attributes:
        type: the resource type
        next: for each state those that may follow it; a state stays what it is without being named
        by: what only an operation may do: `(from, to)` with the codes of the operations that do it
        element: the element that holds the state
        mistaken: whether every state but the last may become `entered-in-error`
    """

    type: str
    next: Mapping[str, tuple[str, ...]]
    by: Mapping[tuple[str, str], tuple[str, ...]]
    element: str = "status"
    mistaken: bool = True

    def following(self, state: str) -> tuple[str, ...]:
        """The states that may follow one."""
        if state == MISTAKE:
            return ()
        return (*self.next.get(state, ()), *((MISTAKE,) if self.mistaken else ()))

    def rule(self, write: Write) -> Json | None:
        """Holds a write to the machine; records of elsewhere may begin in any state.

        Raises:
            UnprocessableError: 422; the state does not follow, or only by an operation.
        """
        if write.old is None or write.new is None:
            return write.new
        old, new = write.old.get(self.element), write.new.get(self.element)
        if old == new or old is None:
            return write.new
        follows = self.following(old)
        place = f"{self.type}.{self.element}"
        if new not in follows:
            can = f"it can become {listed(follows)}" if follows else "nothing follows it"
            raise UnprocessableError(
                f"{write.reference} is {old!r} and cannot become {new!r}; {can}.",
                key="HS-STATE",
                expression=place,
            )
        operations = self.by.get((old, new), ())
        if operations and write.by not in operations:
            calls = " or ".join(f"${code}" for code in operations)
            raise UnprocessableError(
                f"{write.reference} becomes {new!r} by {calls} alone, which looks at what goes with it.",
                key="HS-STATE-OPERATION",
                expression=place,
            )
        return write.new

    def mermaid(self) -> str:
        """The machine as a diagram."""
        lines = ["stateDiagram-v2"]
        for state, follows in self.next.items():
            for after in follows:
                operations = self.by.get((state, after), ())
                label = f": {', '.join('$' + code for code in operations)}" if operations else ""
                lines.append(f"    {_name(state)} --> {_name(after)}{label}")
        named = [*self.next, *(s for follows in self.next.values() for s in follows)]
        lines += [f'    state "{state}" as {_name(state)}' for state in dict.fromkeys(named) if "-" in state]
        return "\n".join(lines)


def listed(states: Iterable[str]) -> str:
    return ", ".join(repr(state) for state in states)


def _name(state: str) -> str:
    return state.replace("-", "_")
