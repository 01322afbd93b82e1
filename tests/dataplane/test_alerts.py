"""The dashboard and the alert rules, against the metrics of a running gateway."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import callkeeper.metrics
import callkeeper.sinks.counters
import extauthz.__main__  # noqa: F401  defines all metrics and errors of the service
import sdpfilter.translate  # noqa: F401  the same
from callkeeper.calls import Reason
from helpers.gateway import Gateway
from helpers.scraping import Sample, get, scrape
from ringback.errors import ApiError
from ringback.paths import envoy_dir

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

ROOT = envoy_dir().parent
FOLDER = ROOT / "deploy/observability"
ALERTS = [
    (group["name"], rule)
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
# What Prometheus adds itself.
OF_PROMETHEUS = {"job", "instance"}
ENDINGS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
OBSERVABILITY = ROOT / "docs/observability.md"
RUNBOOKS = "docs/operations.md"
# What a label may say; of others it is open.
OUTCOMES = {"minted", "call", "key_call", "websocket", "sideband", "ready"}
RESULTS = {
    "taken",
    "unavailable",
    "refused",
    "taken_up",
    "registered",
    "failed",
    "given_up",
    "lost",
}
VALUES = {
    "job": {"envoy", "extauthz", "sdpfilter", "callkeeper"},
    "reason": {*Reason},
    "state": {"served", "accepted"},
    "envoy_response_code_class": {"1", "2", "3", "4", "5"},
    "envoy_http_conn_manager_prefix": {"ingress_http", "egress_http"},
    "envoy_listener_address": {"ingress_http", "egress_http"},
    "envoy_cluster_name": {"extauthz.*", "sdpfilter", "upstream_.*"},
}


def codes(kind: type[Any] = ApiError) -> set[str]:
    """Return the codes of all errors, which labels show."""
    found = {getattr(kind, "code", "")}
    for child in kind.__subclasses__():
        found |= codes(child)
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels with something to show."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[Any]:
    """Return every expression under the name of what it is in."""
    alerts = [pytest.param(rule["expr"], id=rule["alert"]) for _, rule in ALERTS]
    shown = [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in panels()
        for target in panel["targets"]
    ]
    return alerts + shown


class Names(dict[str, set[str]]):
    """Names of metrics with their labels."""

    def learn(self, name: str, labels: set[str]) -> None:
        """Add what is known of a metric."""
        self.setdefault(name, set()).update(labels | OF_PROMETHEUS)


@pytest.fixture(scope="session")
def names() -> Names:
    """What is known of the metrics, filled once."""
    return Names()


async def learn(gateway: Gateway, names: Names) -> None:
    """Learn all metrics of a gateway that has seen some traffic; labels also by their definition.

    A counter with labels has no sample before it counts; that it is there its TYPE line tells.
    """
    if names:
        return
    await gateway.call(await gateway.token())
    assert gateway.metrics is not None
    sample: Sample
    for sample in await scrape(gateway.metrics):
        names.learn(sample.name, set(sample.labels))
    for _, port, target in gateway.metrics.all():
        text = (await get(port, target)).body.decode()
        for name in re.findall(r"^# TYPE (ringback_\w+) ", text, re.MULTILINE):
            names.learn(name, labels_of(name))
    names.learn("up", set())
    # Whom this gateway does not have.
    for module in (callkeeper.metrics, callkeeper.sinks.counters):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                endings = ENDINGS[family.type]
                for ending in endings:
                    names.learn(f"{family.name}{ending}", {*metric._labelnames, "le"})


def labels_of(name: str) -> set[str]:
    """Return the labels that our code gives to a metric."""
    collector: Any = REGISTRY._names_to_collectors[name]
    return {*collector._labelnames}


def selectors(node: Any) -> Iterator[Any]:
    """Yield each selector in an expression."""
    match node:
        case promql_parser.VectorSelector():
            yield node
        case promql_parser.MatrixSelector():
            yield node.vector_selector
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(node.expr)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument)
        case _:
            assert isinstance(node, promql_parser.NumberLiteral), type(node)


def grouped(text: str) -> set[str]:
    """Return the labels by which an expression groups."""
    found = re.findall(r"\bby \(([^)]*)\)", text)
    return {label.strip() for group in found for label in group.split(",")}


@pytest.mark.parametrize("expression", expressions())
async def test_every_expression_finds_its_metrics(
    gateway: Gateway, names: Names, expression: str
) -> None:
    """Each metric is exported by a running gateway, with the labels by which it is chosen."""
    await learn(gateway, names)
    parsed: Any = promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    found = list(selectors(parsed))
    assert found
    known: set[str] = set()
    for selector in found:
        assert selector.name in names, selector.name
        labels = names[selector.name]
        known |= labels
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{selector.name} has no {matcher.name}"
            allowed = VALUES.get(matcher.name)
            if matcher.name in {"outcome", "result", "error"}:
                allowed = codes() | OUTCOMES | RESULTS
            words = {*matcher.value.split("|")}
            assert allowed is None or words <= allowed, words
    assert grouped(expression) <= known


async def test_a_wrong_name_would_be_found(gateway: Gateway, names: Names) -> None:
    """The look at the expressions sees a metric or a label that is not there."""
    await learn(gateway, names)
    assert "ringback_authz_decisions" not in names
    assert "envoy_http_rbac_denied_total" not in names
    assert "model" not in names["ringback_authz_decisions_total"]
    assert names["ringback_key_lookups_total"] == {"source", "outcome", *OF_PROMETHEUS}


async def test_alert_rules_are_whole() -> None:
    """Each rule has a name of its own, how urgent it is, a sentence and a runbook."""
    alerts = [rule["alert"] for _, rule in ALERTS]
    assert len(set(alerts)) == len(alerts) > 15
    assert len({name for name, _ in ALERTS}) > 1
    for _, rule in ALERTS:
        assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert re.fullmatch(r"Ringback[A-Z]\w+", rule["alert"])
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"{RUNBOOKS}#{rule['alert'].lower()}"
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= grouped(rule["expr"]) | OF_PROMETHEUS


async def test_every_alert_has_its_runbook() -> None:
    """docs/operations.md has a section with something to do for each alert, and for no other."""
    text = (ROOT / RUNBOOKS).read_text()
    found = dict(re.findall(r"^### (Ringback\w+)\n((?:(?!#).*\n?)+)", text, re.MULTILINE))
    assert list(found) == [rule["alert"] for _, rule in ALERTS]
    assert [name for name, section in found.items() if len(section.split()) < 20] == []


async def test_dashboard_is_whole() -> None:
    """Each panel has a title, a description, a place of its own and queries with legends."""
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert labels <= grouped(target["expr"]) | OF_PROMETHEUS


async def test_every_metric_of_ours_is_documented() -> None:
    """docs/observability.md has each metric that the services define."""
    page = OBSERVABILITY.read_text()
    ours = [name for name in REGISTRY._names_to_collectors if name.startswith("ringback_")]
    missing = [
        name
        for name in ours
        if not re.search(rf"`{re.sub('_(bucket|sum|count|created)$', '', name)}(_total)?`", page)
    ]
    assert missing == []
