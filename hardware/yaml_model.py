"""YAML files as pydantic models; what is wrong in one is said with file, line, path, reason and remedy, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hardware.yaml_source import Source, read_text

Model = TypeVar("Model", bound=BaseModel)


def load_model(file: Path, model: type[Model]) -> Model:
    """Read ``file`` as ``model``.

    Raises
    ------
    YamlFileError
        If the file cannot be read, is no YAML, or does not fit the model.
    """
    return parse_model(read_text(file), model, file)


def parse_model(text: str, model: type[Model], file: str | Path) -> Model:
    """Read ``text``, which stands in ``file``, as ``model``; errors as `load_model`."""
    source = Source(text, str(file))
    try:
        return model.model_validate(source.value)
    except ValidationError as error:
        source.explain(error, model)
        source.raise_any()
        raise
