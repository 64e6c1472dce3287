"""`python -m ftreg`, which is what `accelerate launch -m ftreg` starts."""

import io
import os
import sys

# Threads that wait by spinning cost nothing on an idle machine and stall one that is shared: with
# one busy neighbour on two cores training ran at a third of the speed. OpenMP reads this when
# torch is loaded; who sets it keeps their own choice.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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
