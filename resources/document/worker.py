"""What looks into documents of strangers: a program of its own, which imports nothing of ours.

A document that is made to break a parser breaks this process, which has little memory, little time and no secrets.

    inspect FILE              prints, as JSON, what a PDF does by itself
    preview FILE TYPE OUT     writes a picture of the first page, or of the picture, as PNG
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

#: Limits of this process: memory, processor seconds, bytes of a file that it writes.
MEMORY_BYTES = 1536 * 2**20
SECONDS = 20
FILE_BYTES = 32 * 2**20

#: The longer side of a preview, in pixels; a picture with more pixels than `MOST_PIXELS` is not opened.
SIDE = 1024
MOST_PIXELS = 64_000_000

#: Actions of a PDF that do something beyond showing another place of it.
ACTIONS = {
    "/JavaScript": "it runs JavaScript",
    "/Launch": "it starts programs",
    "/ImportData": "it imports data",
    "/SubmitForm": "it sends forms away",
    "/Rendition": "it plays media with scripts",
    "/RichMediaExecute": "it runs media",
    "/GoToE": "it opens files inside",
}
MOST_OBJECTS = 500_000


def inspect(path: Path) -> list[str]:
    """What a PDF does by itself, in words, each once."""
    import pikepdf  # noqa: PLC0415  (each task needs one of the libraries)

    try:
        pdf = pikepdf.open(path)
    except pikepdf.PasswordError:
        return ["it is encrypted with a password, so nobody can look into it"]
    except pikepdf.PdfError:
        return ["it is damaged, so nobody can look into it"]
    found: dict[str, None] = {}
    with pdf:
        names: Any = pdf.Root.get("/Names", {})
        if "/JavaScript" in names:
            found["it runs JavaScript"] = None
        if "/EmbeddedFiles" in names or len(pdf.attachments):
            found["it has files inside"] = None
        for number, item in enumerate(pdf.objects):
            if number > MOST_OBJECTS:
                found["it has more objects than are looked at"] = None
                break
            _look(item, found)
    return list(found)


def _look(item: Any, found: dict[str, None]) -> None:
    """Note what one object and those written within it do; those that stand by themselves come by themselves."""
    import pikepdf  # noqa: PLC0415

    waiting = [item]
    while waiting:
        one = waiting.pop()
        if isinstance(one, pikepdf.Array):
            waiting += [inner for inner in one if not _stands_alone(inner)]
            continue
        if not isinstance(one, pikepdf.Dictionary | pikepdf.Stream):
            continue
        if (action := str(one.get("/S", ""))) in ACTIONS:
            found[ACTIONS[action]] = None
        if "/JS" in one:
            found["it runs JavaScript"] = None
        if str(one.get("/Type", "")) == "/EmbeddedFile" or "/EF" in one:
            found["it has files inside"] = None
        if str(one.get("/Subtype", "")) == "/RichMedia":
            found["it runs media"] = None
        if "/XFA" in one:
            found["it has a form with scripts (XFA)"] = None
        waiting += [inner for _, inner in one.items() if not _stands_alone(inner)]


def _stands_alone(item: Any) -> bool:
    return bool(getattr(item, "is_indirect", False))


def preview(path: Path, content_type: str, out: Path) -> None:
    """Write a picture of a document. Raises where there can be none."""
    from PIL import Image  # noqa: PLC0415

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    if content_type == "application/pdf":
        import pypdfium2  # noqa: PLC0415

        document = pypdfium2.PdfDocument(path)
        page = document[0]
        width, height = page.get_size()
        picture = page.render(scale=min(4.0, SIDE / max(width, height, 1.0)), may_draw_forms=False).to_pil()
    else:
        opened = Image.open(path)
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError("too many pixels")
        picture = opened.convert("RGB")
        picture.thumbnail((SIDE, SIDE))
    picture.convert("RGB").save(out, "PNG")


def main(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    match arguments:
        case ["inspect", path]:
            sys.stdout.write(json.dumps(inspect(Path(path))))
        case ["preview", path, content_type, out]:
            preview(Path(path), content_type, Path(out))
        case _:
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
