"""`make drift`: every disagreement in a line; exit code 1 if there is any."""

import sys

from infra.checks import locks, tree
from infra.contracts import documents
from infra.deploy import generate

found = [*tree.problems(), *locks.problems(), *generate.problems(), *documents.problems()]
for line in found:
    sys.stderr.write(f"drift: {line}\n")
sys.exit(1 if found else 0)
