"""`python -m infra.new_integration NAME`: write the integration's files, and what is generated from them.

0: written. 1: it cannot be made, in one line that says why; nothing was written. 2: the command line is wrong.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.deploy import generate
from infra.new_integration.plan import NewIntegrationError, plan

ROOT = Path(__file__).parents[2]


def write(root: Path, name: str) -> list[str]:
    """Write everything; the paths, those of generated files too.

    Raises NewIntegrationError before anything was written; CalledProcessError when ruff does not like what was.
    """
    files = plan(root, name)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    # A name's length and place in the alphabet move lines and imports.
    python = [path for path in files if path.endswith(".py")]
    for arguments in (["check", "--fix", "--select", "I"], ["format"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, "--quiet", *python], cwd=root, check=True)
    generated = generate.write(root)
    subprocess.run([sys.executable, "-m", "infra.contracts", "--write"], cwd=root, check=True)
    return [*files, *generated, "docs/contracts/openapi.json"]


def main(arguments: list[str]) -> int:
    """Make one integration; the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: make new-integration NAME=teams\n")
        return 2
    [name] = arguments
    try:
        written = write(ROOT, name)
    except NewIntegrationError as error:
        sys.stderr.write(f"new-integration: {error}\n")
        return 1
    sys.stdout.writelines(f"written {path}\n" for path in written)
    test = f"tests/functional/test_ingest_{name.replace('-', '_')}.py"
    sys.stdout.write(f'\nIts tests: make test ARGS="{test}". What is left to do: docs/new-integration.md\n')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
