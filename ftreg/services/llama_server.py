"""Serve a GGUF file with llama.cpp: a separate program that ends with the process that started it.

Its argument is JSON: file, context, threads, parallel. It prints the server's address to stdout,
and ends when stdin is closed, which happens when the parent process ends.
"""

import json
import os
import sys


def serve() -> None:
    """Serve until stdin is closed."""
    from xllamacpp import CommonParams, Server

    asked = json.loads(sys.argv[1])
    parameters = CommonParams()
    parameters.model.path = asked["file"]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = asked["context"]
    parameters.n_parallel = asked["parallel"]
    # Each slot has the full context, which must not depend on the number of slots.
    parameters.kv_unified = False
    parameters.fit_params = False
    parameters.warmup = False
    # Reusing the cache of an earlier prompt would change the order of sums.
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.cpuparams.n_threads = asked["threads"]
    parameters.cpuparams_batch.n_threads = asked["threads"]
    server = Server(parameters)
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.read()
    os._exit(0)  # its threads cannot be stopped otherwise


if __name__ == "__main__":
    serve()
