"""`healthsphere examples`: made-up patients for trying things, the same ones every time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fhir_server.cli.load import own_token
from fhir_server.cli.say import err, out, plain_faults, settings_of
from fhir_server.load.options import LoadOptions
from fhir_server.model import codec
from fhir_server.settings import Settings

DEFAULT_COUNT = 100
SEED = 42
AGES = (18, 90)


def examples(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many patients.")] = DEFAULT_COUNT,
    base_url: Annotated[str | None, typer.Option(help="FHIR base of the running server.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the server; the files are kept there.")] = None,
) -> None:
    """Generate synthetic patients and load them into a running server, once: a second call finds them loaded."""
    with plain_faults():
        settings = settings_of(data_dir=data_dir)
        if examples_loaded(settings, count):
            out.print(f"The {count} example patients are loaded already.", highlight=False)
            return
        target = (base_url or settings.base_url).rstrip("/")
        folder = _generate(settings, count)
        bearer = own_token(settings, target)
    from fhir_server.load import run  # noqa: PLC0415  (heavy: only when it is used)

    state = settings.data_dir / "examples" / "load-state"
    state.mkdir(exist_ok=True)
    report = run(
        LoadOptions(
            paths=(str(folder),),
            base_url=target,
            token=bearer,
            state_dir=state,
            rejects=settings.data_dir / "examples" / "rejects.ndjson",
        )
    )
    if report.exit_code == 0:
        _marker(settings, count).touch()
    raise typer.Exit(report.exit_code)


def examples_loaded(settings: Settings, count: int) -> bool:
    """Whether `count` example patients went into this data folder's server before."""
    return _marker(settings, count).exists()


def _marker(settings: Settings, count: int) -> Path:
    return settings.data_dir / "examples" / f"loaded-{count}"


def _generate(settings: Settings, count: int) -> Path:
    """One transaction Bundle a patient, as files; generated again when an earlier attempt did not finish."""
    folder = settings.data_dir / "examples" / f"patients-{count}"
    if folder.exists():
        return folder
    from carebundle import generate_cohort, to_json  # noqa: PLC0415  (heavy: only when it is used)

    draft = folder.with_name(f"{folder.name}.draft-{os.getpid()}")
    draft.mkdir(parents=True, exist_ok=True)
    with err.status(f"Generating {count} synthetic patients"):
        cohort = generate_cohort(count=count, seed=SEED, sex="mixed", age_range=AGES)
        for number, bundle in enumerate(cohort):
            text = to_json(bundle).encode()
            (draft / f"patient-{number:05}.json").write_bytes(codec.encode(repeatable(codec.decode(text))))
    draft.replace(folder)
    return folder


def repeatable(bundle: dict[str, Any]) -> dict[str, Any]:
    """The transaction with updates in the place of creates, under the ids that its `urn:uuid` addresses hold.

    Sent twice it makes nothing twice, so that a load which was interrupted in the middle can go on.
    """
    for entry in bundle["entry"]:
        resource = entry["resource"]
        resource["id"] = entry["fullUrl"].removeprefix("urn:uuid:")
        entry["request"] = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    return bundle
