"""The registry holds what FHIR R4 4.0.1 defines."""

from profiles.registry import definitions, registry


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
