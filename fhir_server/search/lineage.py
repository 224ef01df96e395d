"""The fields of a Provenance that name whose data it tells about: see `repository.lineage`."""

from __future__ import annotations

PROVENANCE = "Provenance"

#: Among the index entries; a search parameter cannot have such a name.
ABOUT = "_about"
ABOUT_ANY = "_about-any"
#: The one patient whom all of it is about.
FIELD = f"x.{ABOUT}"
#: All whom any of it is about; `UNKNOWN` where a target was not there when it was written.
FIELD_ANY = f"x.{ABOUT_ANY}"
UNKNOWN = "?"
