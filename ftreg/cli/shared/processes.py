"""Be as many processes as the launcher was asked for."""

import os
import re
import sys

import psutil
import typer

from ftreg.errors import UsageError

# What launchers, MPI's among them, set in the processes that they start.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


def start_missing_processes() -> None:
    """Start the processes that `accelerate launch --cpu --num_processes N` did not.

    On CPUs accelerate leaves them to MPI: without an MPI host file it sets an address for N
    processes to meet at, and starts one, which would train alone and say nothing. How many were
    asked for stands on its command line only. This process is then replaced by torchrun's.

    Raises:
        UsageError: several were asked for, and it cannot be told how many, or on which machines.
    """
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ
    if not asked or any(size in os.environ for size in _SIZES):
        return
    command = _launcher()
    number = re.search(r" --num[_-]processes[ =](\d+)", command)
    if number is None or re.search(r" --num[_-]machines[ =]([2-9]|1\d)", command):
        raise UsageError(
            "accelerate was asked for several processes, and has started one: on CPUs it leaves "
            "the others to MPI. Use `accelerate launch --config_file configs/accelerate/cpu.yaml "
            "--num_processes N -m ftreg train ...`, or `torchrun --nproc_per_node N -m ftreg train "
            "...`"
        )
    typer.echo(
        f"note: accelerate started one of {number[1]} processes, since on CPUs it leaves them to "
        "MPI; starting them by torchrun",
        err=True,
    )
    environment = {key: value for key, value in os.environ.items() if key not in _ADDRESS}
    torchrun = [sys.executable, *_safe(), "-m", "torch.distributed.run", "--standalone"]
    ours = ["--nproc_per_node", number[1], "-m", "ftreg", *sys.argv[1:]]
    os.execve(sys.executable, [*torchrun, *ours], environment)


def _safe() -> list[str]:
    """What keeps Python from importing out of the working folder, where this process does not."""
    return ["-P"] if sys.flags.safe_path else []


def _launcher() -> str:
    """The command line of the process that started this one; empty where it cannot be read."""
    try:
        parent = psutil.Process().parent()
        return " ".join(parent.cmdline()) if parent else ""
    except psutil.Error:
        return ""
