"""Explain why the Hugging Face hub did not provide something."""

from ftreg.errors import first_line


def why_not_given(error: Exception, name: str, *, revision: str | None, network: str = "") -> str:
    """Return why the hub's client failed, and what to do.

    Args:
        error: of huggingface_hub or of the libraries below it.
        name: of the model or dataset, `org/name`.
        revision: the requested one.
        network: what to do without a network, on a separate line.
    """
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return f"it is gated: accept its terms at {ENDPOINT}/{name}, then `hf auth login`"
        case RepositoryNotFoundError():
            return "it has none of this name, or one that is private (`hf auth login`)"
        case RevisionNotFoundError():
            return f"it has no revision {revision!r}"
    return f"{type(error).__name__}: {first_line(error)}{network}"
