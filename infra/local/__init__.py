"""The whole system on one machine: `python -m infra.local`."""
