"""`make new-integration NAME=teams`: a working integration from templates (docs/new-integration.md)."""
