"""Starts vLLM's OpenAI server quickly on a machine without a GPU. Run by file path, with the engine's own Python.

vLLM forces `spawn` on CPUs, so that each of its processes imports torch and vLLM again. Here everything is imported
once, the engine process is forked, its worker runs inside it, and nothing is compiled or warmed up. A vLLM whose
insides have moved is started the ordinary way instead. Knows nothing of Alignway: it may run in another environment.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ORDINARY_SERVER = "vllm.entrypoints.openai.api_server"
ENTRY = "vllm.entrypoints.launchers.api_server.entry"
CONTEXT_GETTER = "get_mp_context"
IMPORTED_BEFORE_FORK = (
    "vllm.v1.engine.core",
    "vllm.v1.engine.utils",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
)
ADAPTER_ARITHMETIC = "vllm.lora.ops.torch_ops.lora_ops"
ADAPTER_CALLS = "vllm.lora.punica_wrapper.punica_cpu"
KEEPS_UNI_EXECUTOR = "VLLM_ENABLE_V1_MULTIPROCESSING"


def forget_own_folder() -> None:
    """A script's folder comes first in the search path, and in this one `vllm` is an adapter of Alignway's."""
    own = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != own]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_defaults() -> None:
    """Environment of a small CPU server; what the user set already stays."""
    defaults = {
        "VLLM_TARGET_DEVICE": "cpu",
        # A fork inherits libgomp with its threads chosen, so vLLM's own binding would come too late.
        "OMP_NUM_THREADS": str(usable_cores()),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Threads that spin while they wait starve each other as soon as a trainer shares the cores: a stream that had
        # 27 tokens/s got 2.
        "OMP_WAIT_POLICY": "PASSIVE",
        # An explicit cache size (GiB), with eager mode, spares the pass that measures memory.
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def forked_server() -> Callable[[], Any] | None:
    """vLLM's main function, set up to fork; None if this vLLM lacks a place to do it."""
    os.environ[KEEPS_UNI_EXECUTOR] = "0"
    context = multiprocessing.get_context("fork")
    try:
        system = importlib.import_module("vllm.utils.system_utils")
        _replace_context(system, context)
        entry = importlib.import_module(ENTRY)
        for name in IMPORTED_BEFORE_FORK:
            importlib.import_module(name)
        mend_adapters(importlib.import_module(ADAPTER_ARITHMETIC), importlib.import_module(ADAPTER_CALLS))
        for name, module in list(sys.modules.items()):
            if name.startswith("vllm.") and CONTEXT_GETTER in vars(module):
                _replace_context(module, context)
        main: Callable[[], Any] = entry.main
    except (ImportError, AttributeError) as error:
        print(f"alignway: fast start does not fit this vLLM ({error}); starting it the ordinary way", file=sys.stderr)
        del os.environ[KEEPS_UNI_EXECUTOR]
        return None
    return main


def mend_adapters(arithmetic: Any, calls: Any) -> None:
    """Replace vLLM's arithmetic of adapters on CPUs, in the module that has it and in the one that calls it.

    There, a token of a request without an adapter (index -1) gets the adapter in the last place as soon as another
    request of the batch has one, and every token gets a copy of its adapter's weights, which takes minutes for a large
    batch. Shapes as in vLLM: inputs (tokens, i), weights (places, 1, o, i) or (places, o, i), indices (tokens,).
    """

    def product(inputs: Any, weights: Any, indices: Any, dtype: Any) -> Any:
        inputs, weights = inputs.to(dtype), weights.flatten(0, -3)
        outputs = inputs.new_zeros((inputs.shape[0], weights.shape[1]))
        for place in indices.unique().tolist():
            if place >= 0:
                rows = indices == place
                outputs[rows] = inputs[rows] @ weights[place].to(dtype).T
        return outputs

    def bgmv_shrink(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
        outputs = product(inputs, weights, indices, output.dtype)
        output[:, : outputs.shape[1]] = scaling * outputs

    def bgmv_expand(inputs: Any, weights: Any, output: Any, indices: Any, add_inputs: bool = True) -> None:
        width = min(weights.shape[-2], output.shape[1])
        bgmv_expand_slice(inputs, weights, output, indices, 0, width, add_inputs)

    def bgmv_expand_slice(
        inputs: Any, weights: Any, output: Any, indices: Any, offset: int, size: int, add_inputs: bool = True
    ) -> None:
        outputs, part = product(inputs, weights, indices, output.dtype), output[:, offset : offset + size]
        part.copy_(part + outputs[:, :size] if add_inputs else outputs[:, :size])

    for function in (bgmv_shrink, bgmv_expand, bgmv_expand_slice):
        for module in (arithmetic, calls):
            if not hasattr(module, function.__name__):
                raise AttributeError(f"{module.__name__} has no {function.__name__}")
            setattr(module, function.__name__, function)


def _replace_context(module: Any, context: Any) -> None:
    if not hasattr(module, CONTEXT_GETTER):
        raise AttributeError(f"{module.__name__} has no {CONTEXT_GETTER}")
    setattr(module, CONTEXT_GETTER, lambda: context)


def add_flags(arguments: list[str]) -> None:
    """Run the worker inside the engine process, eagerly, unless the user chose otherwise."""
    if not any(argument.startswith("--distributed-executor-backend") for argument in arguments):
        arguments += ["--distributed-executor-backend", "uni"]
    if not any(argument in ("--enforce-eager", "--no-enforce-eager") for argument in arguments):
        arguments.append("--enforce-eager")


def main() -> None:
    """Serve until told to stop."""
    forget_own_folder()
    set_defaults()
    serve = forked_server()
    if serve is None:
        runpy.run_module(ORDINARY_SERVER, run_name="__main__")
        return
    add_flags(sys.argv)
    serve()


if __name__ == "__main__":
    main()
