import pytest

from ringback.render.documents import (
    TemplateError,
    copy_of,
    dump,
    load_template,
    named,
    part,
    resource,
)

TEMPLATE = load_template("kubernetes", "base/networkpolicy.yaml")


def test_what_is_read_is_written_the_same() -> None:
    """Comments, quotes and styles of a template stay."""
    text = dump(TEMPLATE)

    assert "# Prometheus alone: metrics name models" in text
    assert dump([copy_of(document) for document in TEMPLATE]) == text
    assert dump(load_template("kubernetes", "base/networkpolicy.yaml")) == text


def test_each_reader_gets_documents_of_its_own() -> None:
    """A change of one is none of the next."""
    load_template("kubernetes", "base/service.yaml")[0]["kind"] = "Other"
    assert load_template("kubernetes", "base/service.yaml")[0]["kind"] == "Service"


def test_parts_are_found_by_name() -> None:
    """The one that is meant, wherever it stands."""
    policy = resource(TEMPLATE, "NetworkPolicy", "ringback-check")
    assert part(policy, "metadata", "name") == "ringback-check"
    assert named([{"name": "a"}, {"name": "b", "x": 1}], "b")["x"] == 1


def test_a_template_without_a_part_is_an_error() -> None:
    """With the names that lead to it, and what to do."""
    with pytest.raises(TemplateError, match=r"has no NetworkPolicy > none\. Install"):
        resource(TEMPLATE, "NetworkPolicy", "none")
    with pytest.raises(TemplateError, match="has no b"):
        named([{"name": "a"}], "b")
    with pytest.raises(TemplateError, match="has no spec > 0 > name"):
        part(TEMPLATE[0], "spec", 0, "name")
