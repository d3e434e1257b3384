"""Serves the local model over an OpenAI-compatible API. Run as `-m deploy.local.servers.model_server WEIGHTS PORT`."""

import os
import signal
import sys

import xllamacpp

from deploy.local.servers.local_model import MODEL_NAME
from deploy.local.servers.ports import HOST

THREADS = max(1, min(4, len(os.sched_getaffinity(0)) // 2))
"""Half of the processors, at most four. The threads of a model wait for each other at every step: on two busy cores,
measured here, two threads take 2 to 25 seconds for an answer that one gives in 0.6 to 2."""
PARALLEL = 2
"""Calls at the same time; more wait."""
CONTEXT_TOKENS = 8192
"""The limit of the model itself, divided among PARALLEL calls; takes some 180 MB."""


def serve(weights: str, port: int) -> None:
    """Load the GGUF file `weights`, warm it up, and serve until SIGTERM or SIGINT. Uses no CPU while idle."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    parameters = xllamacpp.CommonParams()
    parameters.model.path = weights
    parameters.model_alias = {MODEL_NAME}
    parameters.hostnames = [HOST]
    parameters.port = port
    parameters.offline = True
    parameters.use_jinja = True
    parameters.warmup = True
    parameters.n_parallel = PARALLEL
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.fit_params = False
    parameters.cpuparams.n_threads = THREADS
    parameters.cpuparams_batch.n_threads = THREADS
    parameters.cpuparams.poll = 0
    parameters.cpuparams_batch.poll = 0
    parameters.n_threads_http = 2 * PARALLEL
    parameters.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.verbosity = 1
    server = xllamacpp.Server(parameters)
    print(f"{MODEL_NAME} answers at {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Nothing needs saving, and an orderly shutdown of the server would wait for calls in flight.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
