"""What documents add to the server."""

from __future__ import annotations

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from resources.document.chain import supersede
from resources.document.examine import examining
from resources.document.issue import certificate, summary_pdf, verify_signature
from resources.document.preview import preview
from resources.document.release import release
from resources.document.review import review
from resources.document.states import RULES
from resources.document.upload import creating, upload
from resources.document.views import views
from resources.document.words import TYPE
from resources.part import Part

PART = Part(
    "document",
    operations=(
        Operation("upload", f"{OWN}:upload", upload, types=(TYPE,), type=True, affects_state=True, elevated=True),
        Operation("review", f"{OWN}:review", review, types=(TYPE,), instance=True, affects_state=True, elevated=True),
        Operation(
            "release", f"{OWN}:release", release, types=(TYPE,), instance=True, affects_state=True, elevated=True
        ),
        Operation(
            "summary-pdf",
            f"{OWN}:summary-pdf",
            summary_pdf,
            types=("Encounter",),
            instance=True,
            affects_state=True,
            elevated=True,
        ),
        Operation(
            "certificate",
            f"{OWN}:certificate",
            certificate,
            types=("Patient",),
            instance=True,
            affects_state=True,
            elevated=True,
        ),
        Operation("verify-signature", f"{OWN}:verify-signature", verify_signature, types=(TYPE,), instance=True),
        Operation("preview", f"{OWN}:preview", preview, types=(TYPE,), instance=True),
        Operation("views", f"{OWN}:views", views, types=(TYPE,), instance=True, elevated=True),
    ),
    rules=RULES,
    companions=((TYPE, supersede),),
    creating=((TYPE, creating),),
    during=examining,
)
