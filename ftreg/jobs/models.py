"""List the packaged models for `ftreg models list`."""

from ftreg.models.packaged import PACKAGED, is_pulled
from ftreg.records.printed import Printed, printed


@printed
class ListedModel:
    """A packaged model."""

    name: str
    """The name for `base.model` and `ftreg models pull`."""
    kind: str
    """`base model`, `embedder`, or `encoder` (which the judge is built on)."""
    here: bool
    """Whether it is on this machine."""
    license: str
    """SPDX expression."""
    about: str
    """Short description."""


@printed
class ModelList(Printed):
    """What `ftreg models list --json` prints."""

    models: tuple[ListedModel, ...]
    """All models that ftreg can fetch, cached or not."""


def list_models() -> ModelList:
    """List the packaged models, and which of them are in the user's cache."""
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
