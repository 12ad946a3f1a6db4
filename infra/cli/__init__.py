"""`agent`: the command of a person at a terminal (docs/cli.md)."""
