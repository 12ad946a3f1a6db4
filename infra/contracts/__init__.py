"""The contracts as documents: OpenAPI of the public functions, AsyncAPI and JSON Schemas of the events.

`python -m infra.contracts --write` makes docs/contracts from the models; `make drift` fails when they differ.
"""
