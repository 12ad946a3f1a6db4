"""How the Llama Stack server is started; a supervisor runs it and watches it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def command(venv_python: Path, config: Path, port: int) -> list[str]:
    """Give the command line that serves `config` on `port`, in the foreground; SIGTERM stops it.

    `venv_python` comes from `environment.ensure`, `config` from `config.write`.
    """
    return [
        str(venv_python),
        "-m",
        "llama_stack.distribution.server.server",
        "--config",
        str(config),
        "--port",
        str(port),
    ]


def environment(directory: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Give the environment to start it with: what is `inherited`, state in `directory`, no reporting."""
    # An editable path of ours must not shadow the server's own packages.
    kept = {name: value for name, value in inherited.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    direct = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost")))
    return kept | {
        "LLAMA_STACK_CONFIG_DIR": str(directory),  # else ~/.llama
        "LLAMA_STACK_LOGGING": "all=warning",
        "OTEL_SDK_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONWARNINGS": "ignore",  # newer pydantic remarks on its models at every start
        # The model is on loopback: a proxy of this machine is never asked for it.
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def health_url(port: int) -> str:
    """Give the URL that answers 200 once the server is up."""
    return f"http://127.0.0.1:{port}/v1/health"
