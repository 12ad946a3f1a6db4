"""`python -m infra.contracts --write`: make the documents anew."""

import sys

from infra.contracts import documents

if sys.argv[1:] != ["--write"]:
    sys.exit("usage: python -m infra.contracts --write")
documents.write()
