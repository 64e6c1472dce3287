"""Checks for launchers that start several processes to train together."""

import os

from ftreg import process
from ftreg.errors import UsageError

# Variables that launchers, including MPI's, set in the processes they start.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def refuse_missing_processes() -> None:
    """Refuse to train alone if accelerate was asked for several processes on CPUs.

    On CPUs it leaves starting them to MPI: without an MPI host file it sets the rendezvous address
    and starts a single process, which would silently train alone.

    Raises:
        UsageError: accelerate was asked for several processes and started one.
    """
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ
    if asked and not any(size in os.environ for size in _SIZES):
        raise UsageError(
            "accelerate was asked for several processes but started one: on CPUs it leaves "
            "the others to MPI. Use `accelerate launch --config_file configs/accelerate/cpu.yaml "
            "--num_processes N -m ftreg ...`, or `torchrun --nproc_per_node N -m ftreg ...`"
        )


def refuse_to_choose_a_folder() -> None:
    """Refuse if several processes would each choose a different output folder.

    Raises:
        UsageError: there are several processes.
    """
    if process.process_count() > 1:
        raise UsageError("several processes train together: name their one --output")
