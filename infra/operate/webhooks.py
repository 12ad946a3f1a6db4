"""Tools' webhooks as operators see them: which are switched off and why, what waits for them, switching them on again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

# A webhook's name: the tool's id, `*` for the one of all tools; of another integration its name, and its key if it has one.
# A row without a key is for those without a delivery of their own. Counted are answers that never arrived and that nothing
# is being done about any more.
_LIST = """
SELECT CASE WHEN c.integration_type = 'tool' THEN coalesce(nullif(c.integration_key, ''), '*')
            ELSE concat_ws('/', c.integration_type, nullif(c.integration_key, '')) END AS tool,
       c.integration_type AS type, c.integration_key AS key, c.delivery ->> 'webhook_url' AS url,
       c.delivery ->> 'disabled_at' AS disabled_at, c.delivery ->> 'disabled_reason' AS reason,
       (SELECT count(*) FROM request_logs r
        WHERE r.integration_type = c.integration_type AND r.undeliverable_at >= (c.delivery ->> 'disabled_at')::timestamptz
          AND r.delivered_at IS NULL AND (r.integration_key = c.integration_key OR c.integration_key = '')) AS unsent
FROM integration_configs c
WHERE c.delivery ? 'webhook_url'
ORDER BY c.integration_type, c.integration_key
"""
_ENABLE = """
UPDATE integration_configs SET delivery = delivery - 'disabled_at' - 'disabled_reason', updated_at = now()
WHERE integration_type = %(type)s AND integration_key = %(key)s AND delivery ? 'disabled_at'
"""
_DISABLE = """
SELECT disable_webhook(%(type)s, %(key)s, %(url)s, %(reason)s)
"""
_UNSENT = """
SELECT answer_of(r) FROM request_logs r
WHERE r.integration_type = %(type)s AND r.delivered_at IS NULL AND r.undeliverable_at >= %(disabled_at)s::timestamptz
  AND (r.integration_key = %(key)s OR %(key)s = '')
ORDER BY r.completed_at
"""


def rows(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Every webhook: `tool` is its name, `disabled_at` and `reason` are None while it is on."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST).fetchall()


def enable(connection: psycopg.Connection[Any], webhook: Mapping[str, Any]) -> bool:
    """Switch a webhook on. False when it was not off."""
    return connection.execute(_ENABLE, webhook).rowcount > 0


def disable(connection: psycopg.Connection[Any], webhook: Mapping[str, Any], reason: str) -> bool:
    """Switch a webhook off. False when it was off."""
    [(done,)] = connection.execute(_DISABLE, {**webhook, "reason": reason})
    return bool(done)


def unsent(connection: psycopg.Connection[Any], webhook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers that were not sent because the webhook is off, oldest first; none when it is on."""
    return [answer for (answer,) in connection.execute(_UNSENT, webhook)]
