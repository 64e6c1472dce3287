"""Ask an advisory service for known vulnerabilities of the pinned packages (`make audit`).

Exits with 0 if every package was looked up and none has a vulnerability, 1 if one has, and 3 if
not all of them could be looked up. pip-audit itself reports "no known vulnerabilities" for packages
unknown to its service, which is not a result.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3


def ask(constraints: Path, service: str) -> tuple[list[dict[str, Any]] | None, str]:
    """Return pip-audit's findings by package, or None and the reason."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(constraints)]
    command += [
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--vulnerability-service",
        service,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return list(json.loads(done.stdout)["dependencies"]), ""
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
        return None, lines[-1]


def judge(found: list[dict[str, Any]], service: str) -> tuple[int, list[str]]:
    """Return the exit code and the output lines."""
    skipped = [item["name"] for item in found if "skip_reason" in item]
    affected = [item for item in found if item.get("vulns")]
    lines = [
        f"{item['name']} {item['version']}: {vulnerability['id']}"
        f" (fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'})"
        for item in affected
        for vulnerability in item["vulns"]
    ]
    known = len(found) - len(skipped)
    if skipped:
        some = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        lines.append(
            f"NOT AUDITED: {len(skipped)} of {len(found)} packages could not be looked up ({some})"
        )
    if affected:
        return VULNERABLE, lines
    if skipped or not found:
        return UNKNOWN, [*lines, f"the service {service} was not reached, or does not know them"]
    return CLEAN, [f"{known} packages, none with a vulnerability that the service {service} knows"]


def main() -> int:
    """Audit, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi")
    given = parser.parse_args()
    found, why = ask(given.constraints, given.service)
    if found is None:
        print(
            f"NOT AUDITED: the service {given.service} could not be asked: {why}", file=sys.stderr
        )
        return UNKNOWN
    code, lines = judge(found, given.service)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
