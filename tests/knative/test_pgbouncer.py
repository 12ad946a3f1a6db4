"""The chart where POSTGRES_HOST is a PgBouncer: what needs a session reaches PostgreSQL itself."""

from __future__ import annotations

from typing import Any

import yaml

from tests.knative.conftest import CHART, render

BEHIND_IT = ["POSTGRES_HOST=pgbouncer", "POSTGRES_PORT=6432", "POSTGRES_DIRECT_HOST=db", "POSTGRES_DIRECT_PORT=5432"]


def test_the_migrations_and_who_listens_may_reach_postgresql_itself() -> None:
    settings = [part for one in BEHIND_IT for part in ("--set-string", f"settings.{one}")]
    text = render("knative", CHART, *settings, "--set", "networkPolicies.database.port=6432")
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}

    assert {6432, 5432} <= egress(objects["NetworkPolicy", "agent-invoke"])
    assert egress(objects["NetworkPolicy", "self-service-agent-migrate"]) == {53, 5353, 5432}
    (job,) = [one for (kind, _), one in objects.items() if kind == "Job"]
    given = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (given["POSTGRES_DIRECT_HOST"], given["POSTGRES_DIRECT_PORT"]) == ("db", "5432")


def egress(policy: dict[str, Any]) -> set[int]:
    """The ports that it lets out to."""
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
