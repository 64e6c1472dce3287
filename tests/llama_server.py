"""Serve a GGUF file as llama.cpp's server does: `python llama_server.py FILE PORT`.

A process of its own, for its threads know no end but the process's.
"""

import sys
import threading

from xllamacpp import CommonParams, Server


def main() -> None:
    parameters = CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.port = int(sys.argv[2])
    parameters.n_ctx = 4096
    parameters.n_parallel = 1
    # Its threads wait for each other by spinning: on a machine that is shared, one is quickest.
    parameters.cpuparams.n_threads = 1
    server = Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
