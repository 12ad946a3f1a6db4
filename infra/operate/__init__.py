"""Commands for operators: `python -m infra.operate` (dead letters, webhooks)."""
