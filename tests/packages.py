"""Small packages for tests: a gzipped tar file with a manifest and definitions."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
TYPES = "http://hl7.org/fhir/StructureDefinition/"
GUIDE = "http://guide.example/"


def tar_of(files: dict[str, bytes]) -> bytes:
    """The bytes of a tar file, the same ones each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return gzip.compress(buffer.getvalue(), mtime=0)


def package(
    folder: Path,
    *definitions: Json,
    name: str = "a.guide",
    version: str = "1.0.0",
    needs: dict[str, str] | None = None,
    **manifest: Any,
) -> Path:
    """A package's file in a folder."""
    about = {"name": name, "version": version, "fhirVersions": ["4.0.1"], "dependencies": needs or {}, **manifest}
    files = {"package/package.json": json.dumps(about).encode()}
    files |= {f"package/{d['resourceType']}-{d['id']}.json": json.dumps(d).encode() for d in definitions}
    files["package/example/Patient-x.json"] = b'{"resourceType": "Patient"}'
    path = folder / f"{name}-{version}.tgz"
    path.write_bytes(tar_of(files))
    return path


def profile(name: str, *rows: Json, version: str = "1.0.0", of: str = "Patient", base: str = "") -> Json:
    """A profile with a differential alone."""
    return {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": f"{GUIDE}StructureDefinition/{name}",
        "version": version,
        "name": name.replace("-", "_").capitalize(),
        "status": "active",
        "fhirVersion": "4.0.1",
        "kind": "resource",
        "abstract": False,
        "type": of,
        "baseDefinition": base or TYPES + of,
        "derivation": "constraint",
        "differential": {"element": [{"id": of, "path": of}, *({"id": row["path"], **row} for row in rows)]},
    }


def value_set(name: str, codes: Iterable[str], version: str = "1.0.0") -> Json:
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": f"{GUIDE}ValueSet/{name}",
        "version": version,
        "status": "active",
        "compose": {"include": [{"system": "http://c", "concept": [{"code": code} for code in codes]}]},
    }


def parameter(code: str, expression: str, of: str = "Patient", **more: Any) -> Json:
    return {
        "resourceType": "SearchParameter",
        "id": f"{of}-{code}",
        "url": f"{GUIDE}SearchParameter/{of}-{code}",
        "version": "1.0.0",
        "name": code.capitalize(),
        "status": "draft",
        "description": "x",
        "code": code,
        "base": [of],
        "type": "token",
        "expression": expression,
        **more,
    }
