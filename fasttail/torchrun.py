"""`python -m fasttail.torchrun --nproc-per-node 8 train --stage rep ...`: torchrun, in few words.

torchrun's own options come first, then a command of fasttail's. A mistake, or Ctrl-C, ends the job
with its one line, whatever `--max-restarts` is; `torchrun -m fasttail` prints a traceback of its
own after that, and makes the mistake again at each restart.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import typer
from torch.distributed import run
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from fasttail.cli import MISTAKE, app

# How a process ends whose mistake was said, by itself or by torchrun ending it with the others.
SAID = (MISTAKE, -signal.SIGTERM)


class Agent(LocalElasticAgent):
    """torchrun's own, but that it does not restart processes of which one ended with a mistake."""

    # Its own is wrapped by torch, in a way that types don't see through.
    def _monitor_workers(self, *args: Any) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        result: Any = super()._monitor_workers(*args)
        if any(failure.exitcode == MISTAKE for failure in result.failures.values()):
            self._remaining_restarts = 0
        return result


def main(words: Sequence[str]) -> None:
    """Runs the job. What it ends with is this process's exit code."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    at = next((k for k, word in enumerate(words) if word in commands), len(words))
    options = run.parse_args([*words[:at], "-m", "fasttail"])
    options.training_script_args = list(words[at:])
    try:
        with patch("torch.distributed.launcher.api.LocalElasticAgent", Agent):
            run.run(options)
    except ChildFailedError as failed:
        if any(failure.exitcode not in SAID for failure in failed.failures.values()):
            raise
        sys.exit(MISTAKE)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)


if __name__ == "__main__":
    main(sys.argv[1:])
