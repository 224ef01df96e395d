"""The field of a Provenance that names whose data it tells about: see `repository.lineage`."""

from __future__ import annotations

PROVENANCE = "Provenance"

#: Among the index entries; a search parameter cannot have such a name.
ABOUT = "_about"
FIELD = f"x.{ABOUT}"
