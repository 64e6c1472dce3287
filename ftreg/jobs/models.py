"""What `ftreg models list` shows of the packaged models."""

from ftreg.models.packaged import PACKAGED, is_pulled
from ftreg.records.printed import Printed, printed


@printed
class ListedModel:
    """A packaged model."""

    name: str
    """What `base.model` and `ftreg models pull` take."""
    kind: str
    """`base model`, `embedder`, or `encoder` (what the judge is built on)."""
    here: bool
    """Whether it is on this machine."""
    license: str
    """SPDX expression."""
    about: str
    """What it is, in words."""


@printed
class ModelList(Printed):
    """What `ftreg models list --json` prints."""

    models: tuple[ListedModel, ...]
    """All that ftreg can fetch, here or not."""


def list_models() -> ModelList:
    """List the packaged models, and say which of them are in the user's cache."""
    return ModelList(
        models=tuple(
            ListedModel(
                name=model.name,
                kind=model.kind,
                here=is_pulled(model.name),
                license=model.license,
                about=model.about,
            )
            for model in PACKAGED.values()
        )
    )
