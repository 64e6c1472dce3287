"""`python -m ftreg`, which is what `accelerate launch -m ftreg` starts."""

import io
import os
import sys

# A thread that waits by spinning finds its next work at once, and keeps a neighbour on a shared
# machine from its core. Measured by training on two cores, in tokens/s on an idle machine and
# beside one busy process: 593 and 445 without spinning, 760 and 309 with so short a spin, 742 and
# 213 with GNU OpenMP's own (300,000 rounds). Other OpenMPs know no count, and wait without. OpenMP
# reads this when torch is loaded; who sets it keeps their own choice.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from ftreg.limits import address_limit

# OpenBLAS reserves memory for a thread per core as it is loaded, and ends the process with 1 where
# it gets none. Nothing here leans on its threads.
if address_limit() is not None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from ftreg.cli.app import app
from ftreg.cli.runner import guard_streams


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a stream cannot hold is no fault
            stream.reconfigure(errors="backslashreplace")
    guard_streams()
    app(prog_name="ftreg")


if __name__ == "__main__":
    main()
