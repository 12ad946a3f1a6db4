"""The chart and the chain by Knative's own code. Needs the tools that make test-knative builds (KNATIVE_TOOLS)."""
