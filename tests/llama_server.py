"""Serve a GGUF file as llama.cpp's server does: `python llama_server.py FILE PORT`.

It runs in a separate process, since its threads only end with the process.
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
    # Its threads busy-wait for each other: under other load, one thread is fastest.
    parameters.cpuparams.n_threads = 1
    server = Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
