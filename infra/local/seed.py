"""The rows of a database that is used on one machine only: where the answers to the local tool go."""

from __future__ import annotations

import json

from infra.local.defaults import TOOL
from infra.local.postgres import connect
from infra.local.settings import Database

_SEED = """
INSERT INTO integration_configs AS config (integration_type, integration_key, delivery)
SELECT 'tool', %(tool)s, %(delivery)s
WHERE NOT EXISTS (SELECT 1 FROM integration_configs
                  WHERE integration_type = 'tool' AND integration_key = '' AND delivery ? 'webhook_url')
ON CONFLICT (integration_type, integration_key) DO UPDATE
SET delivery = config.delivery || excluded.delivery, updated_at = now()
WHERE config.delivery ->> 'webhook_url' IS NULL OR config.delivery ->> 'webhook_url' LIKE %(ours)s
"""
# An operator's own URL stays; one that an earlier run wrote may name another port.
_OURS = "http://%/\\_platform/webhook/%"


async def local_webhook(database: Database, origin: str) -> None:
    """Have the answers to the local tool delivered to the stand-in at `origin`, unless the row names another address.

    Raises psycopg.Error when the table is not there or the database goes away.
    """
    url = f"{origin}/_platform/webhook/{TOOL}"
    delivery = json.dumps({"webhook_url": url, "secret_ref": TOOL})
    async with await connect(database) as connection:
        await connection.execute(_SEED, {"tool": TOOL, "delivery": delivery, "ours": _OURS})
