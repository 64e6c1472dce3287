"""What must be right where a launcher starts several processes that train together."""

import os

from ftreg import process
from ftreg.errors import UsageError

# What launchers, MPI's among them, set in the processes that they start.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def refuse_missing_processes() -> None:
    """Refuse to train alone where accelerate was asked for several processes on CPUs.

    There it leaves starting them to MPI: without an MPI host file it sets an address for all to
    meet at, and starts one, which would train alone and say nothing.

    Raises:
        UsageError: it is so.
    """
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ
    if asked and not any(size in os.environ for size in _SIZES):
        raise UsageError(
            "accelerate was asked for several processes, and has started one: on CPUs it leaves "
            "the others to MPI. Use `accelerate launch --config_file configs/accelerate/cpu.yaml "
            "--num_processes N -m ftreg ...`, or `torchrun --nproc_per_node N -m ftreg ...`"
        )


def refuse_to_choose_a_folder() -> None:
    """Refuse where several processes would each choose a folder of their own to write.

    Raises:
        UsageError: there are several.
    """
    if process.process_count() > 1:
        raise UsageError("several processes train together: name their one --output")
