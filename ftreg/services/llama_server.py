"""Serve a GGUF file by llama.cpp: a program of its own, that ends with the process that started it.

Its argument is JSON: file, context, threads, parallel. It writes the server's address to stdout,
and ends when stdin does, which is when whoever started it is gone.
"""

import json
import os
import sys


def serve() -> None:
    """Serve until stdin ends."""
    from xllamacpp import CommonParams, Server

    asked = json.loads(sys.argv[1])
    parameters = CommonParams()
    parameters.model.path = asked["file"]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = asked["context"]
    parameters.n_parallel = asked["parallel"]
    # Each slot has the whole context; what one needs must not depend on how many there are.
    parameters.kv_unified = False
    parameters.fit_params = False
    parameters.warmup = False
    # What an earlier prompt left behind would be added up in another order.
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.cpuparams.n_threads = asked["threads"]
    parameters.cpuparams_batch.n_threads = asked["threads"]
    server = Server(parameters)
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.read()
    os._exit(0)  # its threads know no other end


if __name__ == "__main__":
    serve()
