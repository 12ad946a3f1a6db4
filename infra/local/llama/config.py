"""The run configuration of the local Llama Stack server 0.2.12: one demo model, agents, all else off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from infra.local.llama.demo_model import MODEL as PROVIDER_MODEL

PROVIDER = "demo"
MODEL = f"{PROVIDER}/{PROVIDER_MODEL}"
"""The id that agents name. Llama Stack makes such ids itself from 0.3 on; 0.2.12 is told this one."""


def write(directory: Path, *, port: int, model_url: str) -> Path:
    """Write the run configuration into `directory` (made if it is not there) and give its path.

    All of the server's state goes below `directory` too. `port` is where the server listens, on loopback;
    `model_url` is the base URL of an OpenAI-compatible server (`http://127.0.0.1:8399/v1`) that lists
    `demo-model`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "run.yaml"
    text = yaml.safe_dump(_configuration(directory.resolve(), port, model_url), sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def _sqlite(directory: Path, name: str) -> dict[str, object]:
    return {"type": "sqlite", "db_path": str(directory / f"{name}.db")}


def _provider(name: str, kind: str, config: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"provider_id": name, "provider_type": kind, "config": dict(config)}]


def _configuration(directory: Path, port: int, model_url: str) -> dict[str, object]:
    # The agents API asks for safety, vector_io, tool_runtime and telemetry to be there, even with nothing in
    # them.
    agents = {
        "persistence_store": _sqlite(directory, "agents"),
        # Its postgres store cannot be read back in 0.2.12. We store nothing (store=False), but it must be
        # there.
        "responses_store": _sqlite(directory, "responses"),
    }
    return {
        "version": "2",
        "image_name": "self-service-agent-local",
        "apis": ["inference", "agents", "safety", "vector_io", "tool_runtime", "telemetry"],
        "providers": {
            "inference": _provider(PROVIDER, "remote::vllm", {"url": model_url, "api_token": "none"}),
            "agents": _provider("meta-reference", "inline::meta-reference", agents),
            "safety": [],
            "vector_io": [],
            "tool_runtime": _provider("model-context-protocol", "remote::model-context-protocol", {}),
            # Without `sinks: []` it prints every span; with it nothing leaves the process.
            "telemetry": _provider("meta-reference", "inline::meta-reference", {"sinks": []}),
        },
        "metadata_store": _sqlite(directory, "registry"),
        "models": [
            {
                "model_id": MODEL,
                "provider_id": PROVIDER,
                "provider_model_id": PROVIDER_MODEL,
                "model_type": "llm",
            }
        ],
        "server": {"host": "127.0.0.1", "port": port},
    }
