"""`python -m ftreg`, which is what `accelerate launch -m ftreg` starts."""

import io
import os
import sys

# A thread that waits by spinning finds its next work at once, and keeps a neighbour on a shared
# machine from its core. Measured by training on two cores, in tokens/s on an idle machine and
# beside one busy process: 593 and 445 without spinning, 760 and 309 with so short a spin, 742 and
# 213 with GNU OpenMP's own (300,000 rounds). LLVM's and Intel's count time, by default 200 ms, of
# which the least above none is a whole one. OpenMP reads this when torch is loaded; who sets
# anything of it keeps their own choice. (`OMP_WAIT_POLICY=PASSIVE` would also end the hundred
# rounds that GNU's spins with more threads than cores, as in a backward pass.)
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ |= {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}

from ftreg.process import address_limit

# OpenBLAS reserves memory for a thread per core as it is loaded, and ends the process with 1 where
# it gets none. Nothing here leans on its threads.
if address_limit() is not None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from ftreg.cli.app import app
from ftreg.cli.shared.runner import guard_streams


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a stream cannot hold is no fault
            stream.reconfigure(errors="backslashreplace")
    guard_streams()
    app(prog_name="ftreg")


if __name__ == "__main__":
    main()
