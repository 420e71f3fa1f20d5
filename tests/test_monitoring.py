"""The documentation's table and the example rules name the figures that there are."""

import importlib

import yaml

from client import budget, metrics
from common.errors import PolicyError
from common.reasons import OTHER, REASONS, known_reason
from server import metrics as server_metrics
from tests.figures import ALL, DOCUMENT, RULES, documented, mentioned, names_of, tables

NAMES = {name for metric in ALL for name in names_of(metric)}


def test_the_table_in_the_documentation_is_that_of_the_code() -> None:
    assert documented(DOCUMENT.read_text()) == tables()


def test_names_follow_prometheus_and_stand_once() -> None:
    for metrics_of_role in (metrics.METRICS, server_metrics.METRICS):
        names = [metric.name for metric in metrics_of_role]
        assert len(names) == len(set(names))
    for metric in ALL:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        timed = "duration" in metric.name or "timestamp" in metric.name
        assert metric.name.endswith("_seconds") == timed, metric.name


def test_each_example_rule_is_of_figures_that_there_are() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert (named := mentioned(rule["expr"])), rule["alert"]
        assert named <= NAMES, rule["alert"]
    assert not mentioned("fedprune_part_upp == 0") <= NAMES


def test_the_budget_is_a_figure_of_the_institution_alone() -> None:
    told = {metric.name for metric in server_metrics.METRICS}
    assert not [name for name in told if "budget" in name or "epsilon" in name]
    assert {metric.name for metric in budget.METRICS} <= {one.name for one in metrics.METRICS}


def test_reasons_are_those_that_refusals_can_have() -> None:
    def reasons(kind: type[PolicyError]) -> set[str]:
        own = () if kind.__module__.startswith("tests") else (kind.reason,)
        return set(own).union(*map(reasons, kind.__subclasses__()))

    # Whether or not another test imported them.
    importlib.import_module("common.release.refusals")
    assert reasons(PolicyError) | {"failed"} == set(REASONS)
    assert known_reason("privacy budget") == "privacy budget"
    assert known_reason("Miller, born 1970") == OTHER
