"""What single values do to the rendered chart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.knative.conftest import CHART, VALUES, render, run

Objects = dict[tuple[str, str], dict[str, Any]]
SETTINGS = ("ConfigMap", "self-service-agent-settings")


def objects(values: str, *more: str) -> Objects:
    """Knative's Services by the kind `ksvc`, all else by its own."""
    found: Objects = {}
    for one in filter(None, yaml.safe_load_all(render(values, CHART, *more))):
        serving = one["apiVersion"] == "serving.knative.dev/v1"
        found["ksvc" if serving else one["kind"], one["metadata"]["name"]] = one
    return found


def woken(found: Objects) -> set[str]:
    """The functions that events are delivered to."""
    names = set()
    for (kind, _), one in found.items():
        if kind in ("Trigger", "Broker"):
            names.add(one["spec"]["delivery"]["deadLetterSink"]["ref"]["name"])
        if kind == "Trigger":
            names.add(one["spec"]["subscriber"]["ref"]["name"])
    return names


def environment(found: Objects, function: str) -> dict[str, Any]:
    """What its container reads: the settings, then its own variables."""
    [container] = found["ksvc", function]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": SETTINGS[1]}}]
    own = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
    return {**found[SETTINGS]["data"], **own}


def reachable_ports(found: Objects, function: str) -> set[int]:
    return {port["port"] for rule in found["NetworkPolicy", function]["spec"]["egress"] for port in rule["ports"]}


def refused(*more: str) -> str:
    """What helm says when it does not render."""
    base = ("--set", "image.registry=r", "--kube-version", "1.33.0")
    done = run("helm", "template", "trial", str(CHART), *base, *more)
    assert done.returncode == 1, done.stdout
    return done.stderr


EVENT_FUNCTIONS = {"session-upsert", "agent-invoke", "response-dispatch", "dead-letter", "session-sweep"}


class TestEventAuth:
    def test_with_the_token_every_function_that_events_reach_has_what_verifies_them(self) -> None:
        found = objects("knative", "--set", "eventAuth.token=true")
        assert woken(found) == EVENT_FUNCTIONS
        for name in woken(found):
            held = {"secretKeyRef": {"name": "self-service-agent-events", "key": "EVENTS_TOKEN"}}
            assert environment(found, name)["EVENTS_TOKEN"] == held
        assert "EVENTS_TOKEN" not in environment(found, "ingest-web")

    def test_the_tokens_secret_is_made_where_secrets_are(self) -> None:
        more = ("--set", "eventAuth.token=true,secrets.values.EVENTS_TOKEN=0123456789abcdef")
        assert objects("dev", *more)["Secret", "self-service-agent-events"]["stringData"]["EVENTS_TOKEN"]
        external = objects("openshift", "--set", "eventAuth.token=true")["ExternalSecret", "self-service-agent-events"]
        assert [one["secretKey"] for one in external["spec"]["data"]] == ["EVENTS_TOKEN"]

    def test_with_oidc_every_function_that_events_reach_verifies_the_audience_that_is_sent(self) -> None:
        found = objects("oidc")
        audiences = {one.get("audience") for one in destinations(found)}
        [audience] = audiences
        assert woken(found) == EVENT_FUNCTIONS
        for name in woken(found):
            seen = environment(found, name)
            assert seen["EVENTS_OIDC_AUDIENCE"] == audience == "self-service-agent/agents"
            assert seen["EVENTS_OIDC_ISSUER"]
            assert seen["EVENTS_OIDC_SUBJECTS"]

    def test_without_either_no_audience_is_named(self) -> None:
        assert {one.get("audience") for one in destinations(objects("knative"))} == {None}

    def test_who_asks_the_api_server_has_its_token_and_the_way_there_and_nobody_else(self) -> None:
        found = objects("oidc")
        assert found["ServiceAccount", "self-service-agent"]["automountServiceAccountToken"] is True
        for (kind, name), one in found.items():
            if kind == "ksvc":
                pod, event = one["spec"]["template"]["spec"], name in EVENT_FUNCTIONS
                assert ("automountServiceAccountToken" not in pod) is event
                assert (6443 in reachable_ports(found, name)) is event

    def test_another_issuers_keys_need_no_token_of_the_api_server(self) -> None:
        found = objects("oidc", "--set", "eventAuth.oidc.jwksUrl=https://keys.example.com/jwks")
        assert found["ServiceAccount", "self-service-agent"]["automountServiceAccountToken"] is False
        assert environment(found, "dead-letter")["EVENTS_OIDC_JWKS_URL"] == "https://keys.example.com/jwks"
        assert 6443 not in reachable_ports(found, "dead-letter")
        assert 443 in reachable_ports(found, "dead-letter")

    def test_the_policy_names_everyone_who_publishes_and_everyone_whose_reply_is_published(self) -> None:
        found = objects("oidc", "--set", "eventAuth.oidc.publishers={system:serviceaccount:ops:replay}")
        [(_, policy)] = [item for item in found.items() if item[0][0] == "EventPolicy"]
        named = {(one["ref"]["kind"], one["ref"]["name"]) for one in policy["spec"]["from"] if "ref" in one}
        assert named == {key for key in found if key[0] in ("Trigger", "SinkBinding", "PingSource")}
        assert {one["sub"] for one in policy["spec"]["from"] if "sub" in one} == {"system:serviceaccount:ops:replay"}

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (("--set", "settings.EVENTS_TOKEN=in-a-config-map"), "settings.EVENTS_TOKEN: set eventAuth instead"),
            (("--set", "settings.EVENTS_OIDC_AUDIENCE=a"), "settings.EVENTS_OIDC_AUDIENCE: set eventAuth instead"),
            (("--set", "eventAuth.oidc.enabled=true"), "eventAuth.oidc.issuer must be set"),
            (("--set", "eventAuth.token=true,deployFunctions=false"), "eventAuth.token: func.yaml names no Secret"),
            (("--set", "eventAuth.oidc.subjects={a*b}"), "eventAuth.oidc.subjects.0"),
        ],
    )
    def test_half_of_it_is_refused(self, given: tuple[str, ...], said: str) -> None:
        assert said in refused(*given).replace("/", ".")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ((), "WARNING: the event functions believe every event"),
            (("--set", "eventAuth.token=true"), "Knative's own brokers send no such header"),
            (("--set", "eventAuth.oidc.enabled=true,eventAuth.oidc.issuer=https://i"), None),
        ],
    )
    def test_the_notes_say_what_is_not_verified(self, tmp_path: Path, given: tuple[str, ...], said: str | None) -> None:
        # Without a cluster helm prints no notes: their template is rendered into an object here.
        chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
        shutil.copy(chart / "templates/NOTES.txt", chart / "files/notes")
        (chart / "templates/notes.yaml").write_text('kind: Notes\ntext: {{ tpl (.Files.Get "files/notes") . | quote }}\n')
        base = ("--set", "image.registry=r", "--kube-version", "1.33.0", "--show-only", "templates/notes.yaml")
        done = run("helm", "template", "trial", str(chart), *base, *given)
        assert done.returncode == 0, done.stderr
        notes = yaml.safe_load(done.stdout)["text"]
        assert "Is all ready?" in notes
        assert (said in notes) if said else ("believe every event" not in notes and "no such header" not in notes)


def destinations(found: Objects) -> Iterator[dict[str, Any]]:
    """Where Triggers and Broker send events."""
    for (kind, _), one in found.items():
        if kind in ("Trigger", "Broker"):
            yield one["spec"]["delivery"]["deadLetterSink"]
        if kind == "Trigger":
            yield one["spec"]["subscriber"]


class TestTracing:
    def test_every_function_is_told_of_the_collector_and_may_reach_it(self) -> None:
        found = objects("knative", "--set", "tracing.endpoint=http://collector:4318,tracing.ratio=0.25")
        functions = [name for kind, name in found if kind == "ksvc"]
        assert len(functions) == 10
        for name in functions:
            seen = environment(found, name)
            assert seen["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
            assert (seen["OTEL_TRACES_SAMPLER"], seen["OTEL_TRACES_SAMPLER_ARG"]) == ("parentbased_traceidratio", "0.25")
            assert 4318 in reachable_ports(found, name)

    def test_settings_have_the_last_word(self) -> None:
        more = ("--set", "tracing.endpoint=http://collector:4318,settings.OTEL_TRACES_SAMPLER=always_on")
        assert objects("knative", *more)[SETTINGS]["data"]["OTEL_TRACES_SAMPLER"] == "always_on"

    def test_without_a_collector_nothing_of_it_is_there(self) -> None:
        found = objects("knative")
        assert not [name for name in found[SETTINGS]["data"] if name.startswith("OTEL_")]
        assert 4318 not in reachable_ports(found, "session-upsert")


class TestNewRevision:
    """Knative makes one only for a changed template; what a pod reads at its start is not in it."""

    @staticmethod
    def hashes(*more: str) -> dict[str, str]:
        return {
            name: one["spec"]["template"]["metadata"]["annotations"]["self-service-agent/settings"]
            for (kind, name), one in objects("knative", *more).items()
            if kind == "ksvc"
        }

    def test_a_changed_setting_makes_one_of_every_function(self) -> None:
        before, after = self.hashes(), self.hashes("--set", "settings.LOG_LEVEL=DEBUG")
        assert all(before[name] != after[name] for name in before)
        assert self.hashes() == before

    def test_changed_agents_make_one_of_who_reads_them(self) -> None:
        before, after = self.hashes(), self.hashes("--set", "agents.a\\.yaml=id: a")
        assert [name for name in before if before[name] != after[name]] == ["agent-invoke"]


@pytest.mark.parametrize("values", VALUES)
def test_a_disruption_budget_is_where_two_pods_always_are(values: str) -> None:
    found = objects(values, "--set", "deployFunctions=true")
    always_two = {
        name
        for (kind, name), one in found.items()
        if kind == "ksvc"
        and int(one["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"]) >= 2
    }
    assert {name for kind, name in found if kind == "PodDisruptionBudget"} == always_two
