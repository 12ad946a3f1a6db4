"""Tools' webhooks as operators see them: which are switched off and why, what waits for them, switching them on again."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

# The row of all tools is for tools without a delivery of their own. Counted are answers that never arrived and that nothing
# is being done about any more.
_LIST = """
SELECT c.integration_key AS tool, c.delivery ->> 'webhook_url' AS url, c.delivery ->> 'disabled_at' AS disabled_at,
       c.delivery ->> 'disabled_reason' AS reason,
       (SELECT count(*) FROM request_logs r
        WHERE r.integration_type = 'tool' AND r.undeliverable_at >= (c.delivery ->> 'disabled_at')::timestamptz
          AND r.delivered_at IS NULL AND (r.integration_key = c.integration_key OR c.integration_key = '')) AS unsent
FROM integration_configs c
WHERE c.integration_type = 'tool' AND c.delivery ? 'webhook_url'
ORDER BY c.integration_key
"""
_ENABLE = """
UPDATE integration_configs SET delivery = delivery - 'disabled_at' - 'disabled_reason', updated_at = now()
WHERE integration_type = 'tool' AND integration_key = %(tool)s AND delivery ? 'disabled_at'
"""
_DISABLE = """
UPDATE integration_configs
SET delivery = delivery || jsonb_build_object('disabled_at', date_trunc('second', now()),
                                              'disabled_reason', %(reason)s::text),
    updated_at = now()
WHERE integration_type = 'tool' AND integration_key = %(tool)s AND delivery ? 'webhook_url' AND NOT delivery ? 'disabled_at'
"""
# The first of them came just before the webhook was switched off, and was refused a moment later.
_UNSENT = """
SELECT answer_of(r) FROM request_logs r
WHERE r.integration_type = 'tool' AND r.delivered_at IS NULL AND r.undeliverable_at >= %(since)s::timestamptz
  AND (r.integration_key = %(tool)s OR %(tool)s = '')
ORDER BY r.completed_at
"""


def rows(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Every webhook; `tool` is empty for the one of all tools."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST).fetchall()


def enable(connection: psycopg.Connection[Any], tool: str) -> bool:
    """Switch a tool's webhook on. False when it was not off."""
    return connection.execute(_ENABLE, {"tool": tool}).rowcount > 0


def disable(connection: psycopg.Connection[Any], tool: str, reason: str) -> bool:
    """Switch a tool's webhook off. False when there is none, or it was off."""
    return connection.execute(_DISABLE, {"tool": tool, "reason": reason}).rowcount > 0


def unsent(connection: psycopg.Connection[Any], tool: str, since: str) -> list[dict[str, Any]]:
    """The answers that were not sent because the webhook was off since then, oldest first."""
    return [answer for (answer,) in connection.execute(_UNSENT, {"tool": tool, "since": since})]
