"""A job of several processes: how a launcher finds the others, and how it ends when one of them is lost.

On a TPU slice, under SLURM, Open MPI or Kubernetes (with the package `kubernetes`) JAX finds out by itself who takes
part; elsewhere the flags say it. launch/cluster has scripts for each.
"""

import faulthandler
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
from absl import flags
from jax._src.clusters import ClusterEnv  # whether a launcher was started as one of many has no public name

from launch._done import Done
from launch._main import Main
from profit_jax.errors import InputError
from profit_jax.experiment.preemption import Preempted

flags.disclaim_key_flags()

HEARTBEAT_SECONDS = 20  # a process that says nothing for so long is lost, and the job with it
LOST = 3  # exit status of a process whose job has lost another
# What errors say when the other end of an exchange is gone; JAX raises them as several types.
SIGNS = ("Gloo", "NCCL", "UNAVAILABLE", "oordination service", "Connection reset")

CLUSTERS = [each for each in ClusterEnv._cluster_types if not each.opt_in_only_method]

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, in a job of several processes.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes the job has.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)


def joined(main: Main) -> Main:
    """The launcher's main as one process of a job, if there is one; a process that is alone notices nothing."""

    def member(argv: Sequence[str]) -> Done | None:
        if not join():
            return main(argv)
        try:
            return main(argv)
        except Preempted:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else ""
            if any(sign in str(error) for sign in SIGNS):
                _leave(LOST, f"another process of this job has ended, so this one stops; start all again ({reason})")
            if isinstance(error, InputError):
                _leave(2, str(error))
            traceback.print_exc()
            _leave(1, f"process {jax.process_index()} of the job has failed")

    return member


def join() -> bool:
    """Joins the job, if there is one, before JAX is used: from then on its devices are those of all processes.

    Raises:
      InputError: flags that do not go together, or a job that does not come together.
    """
    coordinator, processes, process = COORDINATOR.value, PROCESSES.value, PROCESS.value
    where: dict[str, Any] = {}
    if any(value is not None for value in (coordinator, processes, process)):
        if coordinator is None or processes is None or process is None or process >= processes:
            raise InputError("give --coordinator=HOST:PORT, --processes=N and --process=I, I below N, or none of them")
        where |= {"coordinator_address": coordinator, "num_processes": processes}
        where |= {"process_id": process, "cluster_detection_method": "deactivate"}
    elif not any(each.is_env_present() and each.get_process_count() > 1 for each in CLUSTERS):
        return False
    try:
        jax.distributed.initialize(**where, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the job's processes have not come together: {str(error).splitlines()[0]}") from None
    faulthandler.disable()  # JAX ends a process whose job has lost another; what its threads were at says nothing
    if jax.process_index():  # one process speaks
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    return True


def _leave(status: int, message: str) -> NoReturn:
    """Ends at once: an ordinary exit would wait for the others, which wait for this one."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(status)
