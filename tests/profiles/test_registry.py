"""The registry holds what FHIR R4 4.0.1 defines."""

from __future__ import annotations

import gc
import weakref

from profiles.registry import Registry, SearchParameter, definitions, registry

OWN = SearchParameter(
    url="http://a.example/SearchParameter/nickname",
    code="nickname",
    type="string",
    base=("Patient",),
    expression="Patient.name.where(use = 'nickname').given",
    own=True,
)


def test_it_holds_the_146_resource_types_of_r4() -> None:
    types = registry().resource_types
    assert len(types) == 146
    assert {"Patient", "Bundle", "Parameters", "SubstanceSpecification"} <= set(types)
    assert not registry().is_resource_type("DomainResource")
    assert not registry().is_resource_type("HumanName")


def test_it_holds_the_1400_search_parameters_of_r4_and_those_of_this_server() -> None:
    ours = {row["url"] for row in definitions("SearchParameter")}
    assert len(registry().search_parameters.keys() - ours) == 1400
    assert ours <= registry().search_parameters.keys()


def test_the_parameters_of_all_resources_are_among_those_of_each_type() -> None:
    for name in registry().resource_types:
        assert {"_id", "_lastUpdated", "_tag", "_profile"} <= registry().parameters_of(name).keys()


def test_only_domain_resources_have_the_text_parameter() -> None:
    assert "_text" in registry().parameters_of("Patient")
    assert "_text" not in registry().parameters_of("Bundle")


def test_every_content_reference_names_an_element_of_the_same_type() -> None:
    for definition in registry().types.values():
        for element in definition.elements.values():
            assert element.content is None or element.content in definition.elements


def test_every_type_that_an_element_names_is_defined() -> None:
    known = registry().types
    for definition in known.values():
        if definition.kind != "primitive-type":
            for element in definition.elements.values():
                assert all(one.code in known for one in element.types), element.path


def test_children_are_the_elements_directly_below_a_path() -> None:
    names = [element.name for element in registry().types["Observation"].children("Observation.component")]
    assert names[-5:] == ["code", "value[x]", "dataAbsentReason", "interpretation", "referenceRange"]
    assert "coding" not in names


def test_what_is_derived_of_types_is_made_once_for_a_registry_and_its_copies() -> None:
    made: list[Registry] = []

    def shared_of(one: Registry, name: str) -> int:
        made.append(one)
        return len(one.types[name].elements)

    original = Registry()
    copies = [original.copy(), original.copy().copy()]
    copies[0].adopt((OWN,))
    counts = {one.shared(shared_of)("Patient") for one in (*copies, original)}
    assert counts == {len(original.types["Patient"].elements)}
    assert made == [original]


def test_what_is_derived_of_all_definitions_is_made_anew_when_others_come_into_force() -> None:
    def codes_of(one: Registry, name: str) -> frozenset[str]:
        return frozenset(one.parameters_of(name))

    original = registry()
    one, other = original.copy(), original.copy()
    assert OWN.code not in one.kept(codes_of)("Patient")
    assert one.kept(codes_of)("Patient") is one.kept(codes_of)("Patient")
    one.adopt((OWN,))
    assert OWN.code in one.kept(codes_of)("Patient")
    assert OWN.code not in other.kept(codes_of)("Patient")
    assert OWN.code not in original.kept(codes_of)("Patient")
    later = one.kept(codes_of)("Patient")
    one.support({"Patient": ("http://a.example/strict",)}, ())
    assert one.kept(codes_of)("Patient") is not later


def test_of_what_clients_can_name_only_so_much_is_kept() -> None:
    made: list[str] = []

    def length_of(_: Registry, text: str) -> int:
        made.append(text)
        return len(text)

    one = registry().copy()
    for text in ("a", "b", "c", "a", "c"):
        assert one.kept(length_of, 2)(text) == 1
    assert made == ["a", "b", "c", "a"]


def test_a_registry_that_nobody_has_any_more_is_gone_with_what_is_derived_of_it() -> None:
    def itself(one: Registry) -> list[Registry]:
        return [one]

    original = Registry()
    copied = original.copy()
    assert copied.kept(itself)() == [copied]
    assert copied.shared(itself)() == [original]
    left = [weakref.ref(original), weakref.ref(copied)]
    del original, copied
    gc.collect()
    assert [one() for one in left] == [None, None]
