"""A verdict as an in-toto statement, bare or signed in a DSSE envelope.

The forms are those of in-toto's attestation framework (Statement v1) and of DSSE 1.0:
https://github.com/in-toto/attestation and https://github.com/secure-systems-lab/dsse. A file is
canonical JSON, so any changed byte is detected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ftreg.errors import UsageError
from ftreg.files.checking import check_record, documented
from ftreg.files.names import files_below
from ftreg.files.reading import parse_json, read_text
from ftreg.files.store import canonical_json, write_text

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

PREDICATE = "urn:ftreg:verdict:v1"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PAYLOAD = "application/vnd.in-toto+json"
_LARGEST = 64 * 2**20
_LARGEST_KEY = 64 * 2**10
_NEEDED = "signatures need securesystemslib: pip install 'ftreg[attest]'"

V = TypeVar("V")


@documented
class Digests(TypedDict):
    """Algorithm to hex digest."""

    sha256: str


@documented
class GatedFile(TypedDict):
    """A file behind the verdict."""

    name: str
    """Its path relative to the workspace, with `/`."""
    digest: Digests
    """Digest of its bytes."""


@documented
class GatedSide(TypedDict):
    """An evaluation that was gated."""

    id: str
    """Its id."""
    scores: str
    """Hex SHA-256 of its scores, scorer to example id to score, as canonical JSON."""


@documented
class VerdictPredicate(TypedDict, Generic[V]):
    """The statement about the files: the verdict and its basis."""

    ftreg: str
    """The version of ftreg that ran the gate."""
    created: str
    """When, ISO 8601 in UTC."""
    candidate: GatedSide
    baseline: GatedSide
    anchor: GatedSide | None
    checkpoint: dict[str, str]
    """The candidate's: its `name`, its `identity`, the digest of its `weights` where known."""
    dataset: dict[str, str]
    """The `version` that was evaluated, its `split`, and the `digest` of the version."""
    scorers: dict[str, dict[str, Any]]
    """Scorer to its name, version, options and backend."""
    verdict: V
    """With its policy, and the number of looks at the rows before it."""


@documented
class Statement(TypedDict, Generic[V]):
    """The in-toto statement that `ftreg gate --attest` writes or signs."""

    _type: Literal["https://in-toto.io/Statement/v1"]
    subject: list[GatedFile]
    predicateType: Literal["urn:ftreg:verdict:v1"]
    predicate: VerdictPredicate[V]


_RECORD = TypeAdapter(Statement[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement read from a file; `signed_by` is the id of the key that verified it."""

    statement: Statement[dict[str, Any]]
    signed_by: str | None


def read_signer(path: Path) -> "CryptoSigner":
    """Read a private key for signing.

    Args:
        path: PEM without a password: Ed25519, ECDSA (P-256, P-384, P-521) or RSA.

    Raises:
        UsageError: it is not one of these, or the library is missing.
    """
    text = read_text(path, most=_LARGEST_KEY, kind="private key")
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner
    except ImportError as error:
        raise UsageError(_NEEDED) from error
    try:
        return CryptoSigner(load_pem_private_key(text.encode(), password=None))
    except TypeError as error:
        raise UsageError(
            f"{path}: this key has a password; `openssl pkey -in {path} -out KEY` writes it without"
        ) from error
    except Exception as error:  # cryptography raises many unrelated classes
        raise UsageError(
            f"{path}: not a usable private key; `openssl genpkey -algorithm ed25519 -out KEY` "
            "creates one"
        ) from error


def _public_key(path: Path) -> "SSlibKey":
    text = read_text(path, most=_LARGEST_KEY, kind="public key")
    if "PRIVATE KEY" in text:
        raise UsageError(
            f"{path}: this is a private key; verifying only needs the public key, which "
            f"`openssl pkey -in {path} -pubout` prints"
        )
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey
    except ImportError as error:
        raise UsageError(_NEEDED) from error
    try:
        return SSlibKey.from_crypto(load_pem_public_key(text.encode()))
    except Exception as error:
        raise UsageError(
            f"{path}: not a public key in PEM, as printed by `openssl pkey -pubout`"
        ) from error


def write_attestation(
    path: Path,
    *,
    subjects: Mapping[str, str],
    predicate: VerdictPredicate[dict[str, Any]],
    signer: "CryptoSigner | None",
) -> None:
    """Write a statement.

    Args:
        path: the file; an existing one is replaced.
        subjects: path relative to the workspace, to hex SHA-256 of the file.
        predicate: the statement about them.
        signer: signs the statement; None writes it unsigned.

    Raises:
        UsageError: the file cannot be written.
    """
    statement = {
        "_type": _STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(subjects.items())
        ],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    written: dict[str, Any] = statement
    if signer is not None:
        from securesystemslib.dsse import Envelope

        envelope = Envelope(canonical_json(statement).encode(), _PAYLOAD, {})
        envelope.sign(signer)
        written = envelope.to_dict()
    write_text(path, canonical_json(written) + "\n")


class ForgedError(Exception):
    """A statement does not match its signature or its form; the message has the reason."""


def read_attestation(path: Path, *, key: Path | None) -> Attestation:
    """Read a statement and verify its signature.

    Args:
        path: the file.
        key: the public key that must verify it; None for an unsigned statement.

    Raises:
        UsageError: it is not a statement of a verdict; the key is missing, invalid or not needed.
        ForgedError: the signature does not match the key, or the file is not in the form that
            `write_attestation` produces.
    """
    text = read_text(path, most=_LARGEST, kind="attestation")
    value = parse_json(text, place=str(path))
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not an attestation; `ftreg gate --attest FILE` writes one")
    signed_by = None
    if "payload" in value:
        if key is None:
            raise UsageError(
                f"{path} is signed; pass the public key with --key to verify the signature"
            )
        envelope = _envelope(value, path)
        if canonical_json(envelope.to_dict()) + "\n" != text:
            raise ForgedError("the envelope was changed after it was written")
        signed_by = _signer_of(envelope, _public_key(key))
        payload = envelope.payload.decode(errors="replace")
        value = parse_json(payload, place=f"{path}, payload")
    elif key is not None:
        raise ForgedError("the statement is not signed")
    elif canonical_json(value) + "\n" != text:
        raise ForgedError("the statement was changed after it was written")
    try:
        check_record(_RECORD, value)
        files_below({item["name"]: item["digest"]["sha256"] for item in value["subject"]})
    except (ValidationError, ValueError) as error:
        raise UsageError(f"{path}: not a statement of an ftreg verdict: {error}") from error
    return Attestation(cast(Statement[dict[str, Any]], value), signed_by)


def _envelope(value: dict[str, Any], path: Path) -> "Envelope":
    try:
        from securesystemslib.dsse import Envelope
    except ImportError as error:
        raise UsageError(_NEEDED) from error
    try:
        return Envelope.from_dict(value)
    except Exception as error:  # the exception depends on the broken part
        raise UsageError(f"{path}: broken DSSE envelope: {error}") from error


def _signer_of(envelope: "Envelope", key: "SSlibKey") -> str:
    from securesystemslib.exceptions import VerificationError

    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        raise ForgedError(f"the signature is not one of the key {key.keyid}") from error
    if envelope.payload_type != _PAYLOAD or set(envelope.signatures) != {key.keyid}:
        raise ForgedError("the envelope has other contents, or an additional signature")
    return str(key.keyid)
