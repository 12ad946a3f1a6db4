"""Keys and webhook secrets of tools, for operators: `python -m infra.keys` (docs/tools.md)."""
