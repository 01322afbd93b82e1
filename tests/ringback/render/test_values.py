import pytest
from typer.testing import CliRunner

from ringback.cli import app
from ringback.render.values import Name, Ports, Values, ValuesError, Words, parse_values


class Some(Values):
    """What a target may want."""

    replicas: int = 2
    """Pods."""

    hosts: Words = ()
    """Names."""

    ports: Ports = ()
    """TCP."""

    secret: Name = "s"
    """A Secret."""


def test_values_are_parsed() -> None:
    """Numbers, lists with commas, and what is not given."""
    values = parse_values(Some, ["replicas=3", "hosts=a, b,", "ports=1,65535"])

    assert values == Some(replicas=3, hosts=("a", "b"), ports=(1, 65535))
    assert values.namespace == "ringback"


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        # Realistic
        pytest.param("replica=3", "replica: there is no such value", id="unknown"),
        pytest.param("replicas", "replicas: expected NAME=VALUE", id="no-value"),
        pytest.param("replicas=many", "replicas: Input should be a valid integer", id="type"),
        pytest.param("namespace=Voice", "namespace: String should match pattern", id="name"),
        # Pathological
        pytest.param("ports=0", "ports.0: Input should be greater than", id="port"),
        pytest.param("=", ": there is no such value", id="nothing"),
    ],
)
def test_mistakes_are_listed_with_what_there_is(pair: str, problem: str) -> None:
    """The message has the mistake, and each value with its default and meaning."""
    with pytest.raises(ValuesError) as caught:
        parse_values(Some, [pair])

    text = str(caught.value)
    assert f"  {problem}" in text
    assert "  replicas=2  Pods.\n" in text


def test_a_value_that_is_given_twice_is_a_mistake() -> None:
    """Nobody knows which one is meant."""
    with pytest.raises(ValuesError, match="replicas: is given twice"):
        parse_values(Some, ["replicas=1", "replicas=2"])


def test_the_command_refuses_values_with_exit_code_2() -> None:
    """And says what there is."""
    command = ["render", "kubernetes", "--config", "deploy/examples/litellm.yaml", "--set", "help"]
    result = CliRunner().invoke(app, command)

    assert result.exit_code == 2
    assert "namespace=ringback" in result.stderr
