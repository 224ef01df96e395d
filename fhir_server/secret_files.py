"""Secrets from files, as secret stores of containers hand them over: `<VARIABLE>_FILE` names the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

PREFIX = "HEALTHSPHERE_"


class SecretFileError(Exception):
    """A file with a secret cannot be read; the text is one line that says which."""


class SecretFiles(PydanticBaseSettingsSource):
    """The source of settings that reads them; a variable with the secret itself goes before it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file that is named, without the line break at its end."""
        own = [name.removesuffix("_FILE") for name in secret_file_variables(field_name)]
        if any(os.environ.get(name) for name in own):
            return None, field_name, False
        for variable in secret_file_variables(field_name):
            if path := os.environ.get(variable):
                try:
                    return Path(path).read_text("utf-8").rstrip("\r\n"), field_name, False
                except (OSError, UnicodeDecodeError) as error:
                    reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
                    raise SecretFileError(f"{variable} names {path}, which cannot be read ({reason})") from None
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            if name in secrets_of(self.settings_cls) and (value := self.get_field_value(field, name)[0]) is not None:
                found[name] = value
        return found


def secrets_of(settings: type[BaseSettings]) -> tuple[str, ...]:
    """The settings that are secrets."""
    return tuple(name for name, field in settings.model_fields.items() if SecretStr in get_args(field.annotation))


def secret_file_variables(name: str) -> tuple[str, ...]:
    """The variables that may name the file of a secret."""
    return (f"{variable_of(name)}_FILE", *(["MONGODB_URI_FILE"] if name == "mongodb_uri" else []))


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()
