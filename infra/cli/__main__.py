"""`python -m infra.cli`: the same as `agent`."""

from infra.cli.main import main

main()
