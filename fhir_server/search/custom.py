"""Search parameters of the operator's own: from a SearchParameter resource to a definition, or the reasons why not.

Spec: https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fhir_server.fhirpath.compile import Branch, compiled
from fhir_server.fhirpath.expression import Expression, compile_expression
from fhir_server.fhirpath.shapes import shape_of
from fhir_server.model.errors import InvalidError, Issue, UnprocessableError
from fhir_server.search.components import components_of
from fhir_server.search.parameters import MODIFIERS
from profiles.registry import Registry, SearchParameter

TYPES = tuple(name for name in MODIFIERS if name != "special")

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_EXPRESSION_CHARS = 4000
_TYPED_VALUE = re.compile(r"\.value([A-Z][A-Za-z0-9]+)\b")


def definition_of(resource: dict[str, Any], registry: Registry) -> SearchParameter | None:
    """The definition that a SearchParameter resource puts in force; None when it puts none.

    That is so for one that is not active, and for one that is of the specification itself.

    Args:
        resource: valid against the definitions of R4
        registry: with the definitions that are in force already

    Raises:
        UnprocessableError: 422; it is active, and cannot be searched by.
    """
    if resource.get("status") != "active":
        return None
    known = registry.search_parameters.get(resource["url"])
    if known is not None and not known.own:
        return None
    parameter = SearchParameter(
        url=resource["url"],
        code=resource["code"],
        type=resource["type"],
        base=tuple(resource["base"]),
        expression=resource.get("expression"),
        target=tuple(resource.get("target", ())),
        component=tuple((c["definition"], c["expression"]) for c in resource.get("component", ())),
        own=True,
    )
    issues = list(_faults(parameter, registry))
    if issues:
        raise UnprocessableError(issues)
    return parameter


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a package's SearchParameter: it is in force, or its code is there already, or it is at fault."""

    parameter: SearchParameter | None = None
    fault: str = ""


def packaged_definition(resource: dict[str, Any], registry: Registry) -> Verdict:
    """The definition that a SearchParameter of a package puts in force, where its code is free.

    Guides restate the parameters of the specification that they build on under URLs of their own: those stay what they
    are. What is installed is meant to be used, whether its authors call it a draft or not.
    """
    if resource.get("status") == "retired":
        return Verdict()
    bases = [base for base in resource.get("base", ()) if base in registry.types]
    names = registry.concrete(bases)
    free = [name for name in names if resource.get("code") not in registry.parameters_of(name)]
    if names and not free:
        return Verdict()
    meant = {**resource, "base": bases if free == list(names) else free, "status": "active"}
    try:
        return Verdict(definition_of(meant, registry))
    except UnprocessableError as error:
        fault = error.issues[0].diagnostics
    # `extension.valueDateTime` is JSON's word; FHIRPath's is `extension.value.ofType(dateTime)`.
    expression = _TYPED_VALUE.sub(lambda found: _of_type(found, registry), str(resource.get("expression", "")))
    if expression == resource.get("expression"):
        return Verdict(fault=fault)
    try:
        return Verdict(definition_of({**meant, "expression": expression}, registry))
    except UnprocessableError:
        return Verdict(fault=fault)


def _of_type(found: re.Match[str], registry: Registry) -> str:
    names = (found[1], found[1][0].lower() + found[1][1:])
    return next((f".value.ofType({name})" for name in names if name in registry.types), found[0])


def compiled_for(registry: Registry, parameter: SearchParameter, resource_type: str) -> tuple[Branch, ...] | Expression:
    """The paths of a parameter's expression in a type; an expression of FHIRPath where it is more than paths.

    Raises:
        InvalidError: 400; it is no FHIRPath, or names what does not exist.
    """
    text = parameter.expression or ""
    try:
        return compiled(registry, text, shape_of(resource_type))
    except InvalidError:
        if not parameter.own or parameter.type == "composite":
            raise
        return compile_expression(text, registry=registry, root_type=resource_type)


def _faults(parameter: SearchParameter, registry: Registry) -> list[Issue]:
    if parameter.type not in TYPES:
        return [_fault(f"the type is {parameter.type!r}; possible are {', '.join(TYPES)}", "type")]
    if _CODE.fullmatch(parameter.code) is None:
        return [_fault(f"the code {parameter.code!r} is not of letters, digits, - and _ alone", "code")]
    if not parameter.expression or len(parameter.expression) > _MAX_EXPRESSION_CHARS:
        return [_fault(f"an expression of 1 to {_MAX_EXPRESSION_CHARS} characters is needed", "expression")]
    issues = [
        _fault(f"{name} has the search parameter {parameter.code!r} already: {taken.url}", "code")
        for name in registry.concrete(parameter.base)
        if (taken := registry.parameters_of(name).get(parameter.code)) is not None and taken.url != parameter.url
    ]
    if parameter.type == "composite":
        issues += [
            _fault(f"there is no search parameter {url}", "component.definition")
            for url, _ in parameter.component
            if url not in registry.search_parameters or registry.search_parameters[url].type == "composite"
        ]
        if len(parameter.component) < 2:
            issues.append(_fault("a composite has two components at least", "component"))
    return issues[:20] or _uncompiled(parameter, registry)


def _uncompiled(parameter: SearchParameter, registry: Registry) -> list[Issue]:
    issues: list[Issue] = []
    for name in registry.concrete(parameter.base):
        try:
            found = compiled_for(registry, parameter, name)
            if isinstance(found, tuple) and not found:
                issues.append(_fault(f"the expression leads nowhere in {name}", "expression"))
            if parameter.type == "composite" and isinstance(found, tuple):
                for _, expression in components_of(registry, parameter):
                    for branch in found:
                        compiled(registry, expression, branch.shape, shape_of(name))
        except InvalidError as error:
            issues.append(_fault(error.issues[0].diagnostics, "expression"))
        if len(issues) >= 5:
            break
    return issues


def _fault(why: str, element: str) -> Issue:
    text = f"The search parameter cannot be put in force: {why}. With the status `draft` it is kept as it is."
    return Issue("business-rule", text, f"SearchParameter.{element}", "HS-SEARCH-PARAMETER")
