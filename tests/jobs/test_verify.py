"""`ftreg gate --attest` and `ftreg verify`: a verdict that anybody can compute again."""

import base64
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.conftest import Cli, rewrite_rows
from tests.jobs.test_printed import errors

POLICY = Path("gate.yaml")


def _keys(name: str, key: Any, password: bytes | None = None) -> tuple[Path, Path]:
    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, spki))
    return private, public


def _scored(cli: Cli, seed: int) -> str:
    """The id of an evaluation whose scores are drawn anew."""
    before = set(Path("evaluations").glob("*"))
    assert cli("eval", "checkpoints/a", "--no-gate").code == 0
    (folder,) = set(Path("evaluations").glob("*")) - before
    draw = random.Random(seed)
    rewrite_rows(
        folder / "scores.jsonl",
        lambda rows: [{**row, "score": draw.random(), "reason": None} for row in rows],
    )
    return folder.name


@pytest.fixture
def gated(cli: Cli, talking_config: Path) -> str:
    """A baseline that was promoted, and a candidate; its id."""
    POLICY.write_text("{margin: 0.3, min_examples: 4, resamples: 999}")
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    assert cli("promote", _scored(cli, 1), "--anchor").code == 0
    return _scored(cli, 2)


def _attest(cli: Cli, candidate: str, *more: object) -> Path:
    path = Path("verdict.json")
    done = cli("gate", "baseline", candidate, "--policy", POLICY, "--attest", path, *more)
    assert done.code in (0, 1, 3), done
    return path


def test_a_verdict_is_stated_over_its_files_and_computed_again_elsewhere(
    cli: Cli, gated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = json.loads(_attest(cli, gated).read_text())
    assert not errors("attestation", statement)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    names = {item["name"] for item in statement["subject"]}
    assert {f"evaluations/{gated}/{name}.jsonl" for name in ("outputs", "scores")} <= names
    assert {"checkpoints/a/ftreg.json", "checkpoints/a/model.safetensors"} <= names
    assert any(name.endswith("/colours/v1/dataset.yaml") for name in names)
    record = json.loads(Path("evaluations", gated, "gate.json").read_text())
    assert statement["predicate"]["verdict"] == record["verdict"]

    ledger = {path.name for path in Path("baselines/colours.looks").iterdir()}
    done = cli("verify", "verdict.json", "--json")
    assert (done.code, done.json["reasons"], done.json["recomputed"]) == (0, [], True)
    assert not errors("recomputation", done.json)
    assert set(done.json["files"].values()) == {"equal"}
    assert {path.name for path in Path("baselines/colours.looks").iterdir()} == ledger

    elsewhere = Path("elsewhere")
    for name in ("evaluations", "baselines"):
        shutil.copytree(name, elsewhere / name)
    monkeypatch.setenv("FTREG_WORKSPACE", str(elsewhere))
    done = cli("verify", "verdict.json", "--json")
    assert (done.code, done.json["recomputed"]) == (0, True)
    assert {done.json["files"][name] for name in names if "checkpoint" in name} == {"absent"}


def test_without_the_baselines_evaluation_its_file_is_named(cli: Cli, gated: str) -> None:
    baseline = json.loads(Path("baselines/colours.json").read_text())["baseline"]["header"]["id"]
    shutil.rmtree(Path("evaluations", baseline))
    statement = json.loads(_attest(cli, gated).read_text())
    assert "baselines/colours.json" in {item["name"] for item in statement["subject"]}
    assert cli("verify", "verdict.json").code == 0
    assert cli("promote", gated, "--force", "--why", "a trial").code == 0
    done = cli("verify", "verdict.json")
    assert done.code == 3
    assert "baselines/colours.json: changed since" in done.out


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_a_signature_is_checked_and_asked_for(cli: Cli, gated: str, key: Any) -> None:
    private, public = _keys("ours", key)
    _, other = _keys("theirs", ed25519.Ed25519PrivateKey.generate())
    envelope = json.loads(_attest(cli, gated, "--key", private).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    # DSSE's own sum, without the library that signed.
    payload = base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        (signature,) = envelope["signatures"]
        key.public_key().verify(base64.b64decode(signature["sig"]), signed)
    done = cli("verify", "verdict.json", "--key", public)
    assert done.code == 0
    assert "signature: key" in done.out
    done = cli("verify", "verdict.json", "--key", other)
    assert done.code == 3
    assert "not one of the key" in done.out
    done = cli("verify", "verdict.json")
    assert done.code == 2
    assert "--key" in done.err


def test_each_flipped_byte_is_found(cli: Cli, gated: str) -> None:
    private, public = _keys("ours", ed25519.Ed25519PrivateKey.generate())
    path = _attest(cli, gated, "--key", private)
    envelope = json.loads(path.read_text())
    named = json.loads(base64.b64decode(envelope["payload"]))["subject"]
    draw = random.Random(0)
    for file, places in [(path, 40), *((Path(item["name"]), 2) for item in named)]:
        before = file.read_bytes()
        for place in draw.sample(range(len(before)), min(places, len(before))):
            flipped = bytearray(before)
            flipped[place] ^= 1 << draw.randrange(8)
            file.write_bytes(flipped)
            done = cli("verify", path, "--key", public)
            assert done.code in (2, 3), (file, place, done)
            assert "Traceback" not in done.err
        file.write_bytes(before)
    assert cli("verify", path, "--key", public).code == 0


def test_the_first_byte_that_differs_is_named(cli: Cli, gated: str) -> None:
    path = _attest(cli, gated)
    statement = json.loads(path.read_text())
    statement["predicate"]["verdict"]["rows"][0]["delta"] += 1e-9
    text = json.dumps(statement, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    path.write_text(text + "\n")
    done = cli("verify", path, "--json")
    assert done.code == 3
    assert done.json["difference"]["key"] == "rows[0].delta"
    before = json.loads(Path("evaluations", gated, "gate.json").read_text())["verdict"]
    canonical = json.dumps(before, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    forged = json.dumps(
        statement["predicate"]["verdict"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    at = done.json["difference"]["byte"]
    assert canonical[:at] == forged[:at]
    assert canonical[at] != forged[at]


def test_mistakes_have_one_message_each(cli: Cli, gated: str) -> None:
    locked, _ = _keys("locked", ed25519.Ed25519PrivateKey.generate(), b"secret")
    private, public = _keys("ours", ed25519.Ed25519PrivateKey.generate())
    for arguments, part in (
        (("--key", private), "--attest"),
        (("--attest", "v.json", "--key", locked), "password"),
        (("--attest", "v.json", "--key", public), "not a usable private key"),
        (("--attest", "v.json", "--key", "nowhere"), "no such private key"),
    ):
        done = cli("gate", "baseline", gated, "--policy", POLICY, *arguments)
        assert (done.code, part in done.err) == (2, True), done
    path = _attest(cli, gated, "--key", private)
    done = cli("verify", path, "--key", private)
    assert (done.code, "-pubout" in done.err) == (2, True)
    Path("list.json").write_text("[]")
    done = cli("verify", "list.json")
    assert (done.code, "not an attestation" in done.err) == (2, True)
    shutil.rmtree(Path("evaluations", gated))
    done = cli("verify", path, "--key", public)
    assert (done.code, "is missing; provide" in done.err) == (3, True)
    bare = _attest(cli, _scored(cli, 3))
    done = cli("verify", bare, "--key", public)
    assert (done.code, "not signed" in done.out) == (3, True)


def test_a_statement_names_nothing_outside_of_the_workspace(cli: Cli, gated: str) -> None:
    path = _attest(cli, gated)
    statement = json.loads(path.read_text())
    statement["subject"].append({"name": "../../etc/passwd", "digest": {"sha256": "0"}})
    text = json.dumps(statement, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    path.write_text(text + "\n")
    assert cli("verify", path).code == 2


@pytest.mark.slow
def test_a_hundred_verdicts_are_computed_again(cli: Cli, gated: str) -> None:
    for seed in range(100):
        folder = Path("evaluations", gated)
        draw = random.Random(seed)
        missing = seed % 5 == 0
        rewrite_rows(
            folder / "scores.jsonl",
            lambda rows, draw=draw, missing=missing: [  # type: ignore[misc]
                {**row, "score": None, "reason": "no answer"}
                if missing and draw.random() < 0.2
                else {**row, "score": draw.random(), "reason": None}
                for row in rows
            ],
        )
        POLICY.write_text(
            f"{{margin: {draw.choice((0.01, 0.1, 0.5))}, min_examples: 4, max_missing: 0.5,"
            f" mode: {draw.choice(('paired', 'threshold'))}}}"
        )
        done = cli("verify", _attest(cli, gated), "--json")
        assert (done.code, done.json["reasons"], done.json["recomputed"]) == (0, [], True)
