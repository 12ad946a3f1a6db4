"""The Grafana dashboard: `panels.ROWS` as Grafana's JSON, by Grafana's own types."""

from __future__ import annotations

import itertools
import json

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from infra.observability import panels
from infra.observability.panel import Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _HEIGHT = 8, 8  # of 24 columns; in rows of 30 pixels


def dashboard() -> str:
    """The dashboard, as Grafana imports it and its sidecar reads it from a ConfigMap."""
    builder = (
        Dashboard("self-service-agent")
        .uid("self-service-agent")
        .description("A request's way from the person to the answer, stage by stage. What an alert means: docs/runbook.md.")
        .tags(["self-service-agent", "knative"])
        .editable()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("namespace")
            .label("Namespace")
            .datasource(SOURCE)
            .query("label_values(self_service_agent_build_info, namespace)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    number = itertools.count(1)
    for row in panels.ROWS:
        builder = builder.with_row(Row(row.title).id(next(number)))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel, next(number)))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _panel(panel: Panel, number: int) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if panel.now:
        made = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        made = (
            timeseries.Panel()
            .fill_opacity(8)
            .min(0)
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        )
    made = made.id(number).title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE)
    made = made.span(_WIDTH).height(_HEIGHT)
    for letter, (expression, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        made = made.with_target(prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter))
    return made
