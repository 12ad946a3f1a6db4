"""How a revision runs its SQL file."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_file(revision: str) -> None:
    """Run the SQL file that stands beside a revision's Python file, as it is, in the revision's own transaction.

    `revision` is the path of the Python file. The driver's connection is used directly: several statements at once, and a
    percent sign or a colon in the SQL means itself.
    """
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("no database connection")
    connection.cursor().execute(Path(revision).with_suffix(".sql").read_text(encoding="utf-8"))
