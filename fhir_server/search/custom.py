"""Search parameters of the operator's own: from a SearchParameter resource to a definition, or the reasons why not.

Spec: https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import re
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
