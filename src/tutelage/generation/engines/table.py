"""The table of all engines. A new row is held to the contract test of the family.

An engine is made from an ``AskedModel``; its keyword-only parameters are its options. An engine
with an option ``runs`` answers for that model of a recipe alone (``teacher``, the name of a teacher
of a ladder, or ``student``); all others are run in this process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tutelage.components import Component, Limits, bind, lookup
from tutelage.generation.engine import AskedModel, Engine

CONCURRENCY = 8
"""Most requests on their way to a server, unless told otherwise."""


@dataclass(frozen=True)
class EngineKind(Component):
    """A row of the table.

    Attributes:
        decides: ``(options, *, ask)`` gives those of its options that decide what is answered, by
            which answers are known again. It raises ``ConfigError`` where an option cannot be
            right, and finds out from whoever runs the model what the options leave open when
            ``ask`` is true. None: all of them do.
    """

    decides: Callable[..., Mapping[str, Any]] | None = None


def local(asked: AskedModel) -> Engine:
    """Run the model in this process, with transformers."""
    # Recipes and `tutelage ls` read this table, and need no model for that.
    from tutelage.generation.engines.local import LocalEngine

    return LocalEngine(asked.load(), asked.tokenizer)


def server(
    asked: AskedModel,
    *,
    base_url: str,
    model: str = "",
    runs: str = "teacher",
    api: Literal["auto", "completions", "chat"] = "auto",
    key_env: str = "OPENAI_API_KEY",
    concurrency: Annotated[int, Limits(1, 1000)] = CONCURRENCY,
    timeout: Annotated[float, Limits(1, 86_400)] = 600.0,
    retries: Annotated[int, Limits(0, 100)] = 6,
) -> Engine:
    """Ask an OpenAI-compatible server.

    Args:
        asked: the model that it runs; its tokenizer may be None.
        base_url: address, with what stands before ``/completions``, mostly ``/v1``.
        model: name by which the server knows the model; empty: the only one that it lists.
        runs: which model of a recipe the server runs.
        api: ``auto`` continues texts and tokens and answers conversations; ``completions`` writes
            conversations with the tokenizer's template, ``chat`` asks texts as a user's turn.
        key_env: environment variable with the key. A server on loopback needs none.
        concurrency: most requests on their way.
        timeout: seconds that one answer may take.
        retries: further attempts after one that failed in a way that may pass.
    """
    from tutelage.generation.engines.server import ServerEngine, settled_model
    from tutelage.generation.engines.server_calls import Server

    one = Server(base_url, key_env=key_env, timeout=timeout, retries=retries)
    name = settled_model(one, model)
    return ServerEngine(one, name, asked.tokenizer, api=api, concurrency=concurrency)


def vllm(
    asked: AskedModel,
    *,
    runs: str = "teacher",
    dtype: str = "auto",
    tensor_parallel_size: Annotated[int, Limits(1, 1024)] = 1,
    gpu_memory_utilization: Annotated[float, Limits(0.01, 1.0)] = 0.9,
    max_model_len: Annotated[int, Limits(1, 10_000_000)] | None = None,
) -> Engine:
    """Run the model with vLLM in this process.

    Args:
        asked: the model, which must be on the disk or on the hub.
        runs: which model of a recipe it runs; a student in training is asked without vLLM.
        dtype: type of the weights, as vLLM calls it.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes.
        max_model_len: longest prompt and answer together; None for what the model can.
    """
    from tutelage.generation.engines.vllm import VllmEngine

    options = {
        "dtype": dtype,
        "tensor_parallel_size": tensor_parallel_size,
        "gpu_memory_utilization": gpu_memory_utilization,
    }
    if max_model_len is not None:
        options["max_model_len"] = max_model_len
    return VllmEngine(asked.place, asked.tokenizer, options)


def _vllm_decides(options: Mapping[str, Any], *, ask: bool) -> Mapping[str, Any]:
    """How it is spread and how much memory it takes changes no answer but in its last bits."""
    return {"dtype": options.get("dtype", "auto")}


def _server_decides(options: Mapping[str, Any], *, ask: bool) -> Mapping[str, Any]:
    from tutelage.generation.engines.server import what_decides

    return what_decides(options, ask=ask)


ENGINES: dict[str, Component] = {
    "local": EngineKind(local, "in this process, with transformers"),
    "server": EngineKind(
        server, "an OpenAI-compatible server: vLLM, SGLang, llama.cpp...", decides=_server_decides
    ),
    "vllm": EngineKind(
        vllm, "in this process, with vLLM on a GPU (nobody has run it yet)", decides=_vllm_decides
    ),
}
"""Engines by name, as in a recipe's ``engine``; `tutelage ls engines` prints them."""


def make_engine(kind: str, options: Mapping[str, Any], asked: AskedModel) -> Engine:
    """An engine that answers with a model.

    Args:
        kind: name of a row.
        options: of the engine.
        asked: the model.

    Raises:
        ConfigError: unknown engine or option.
        ServerError: a server is away.
    """
    return bind(ENGINES, "engine", kind, options)(asked)


def runs_here(kind: str, options: Mapping[str, Any], asked: AskedModel) -> bool:
    """Whether this process runs a model of a recipe, whatever engine the recipe names.

    So it does with models that are in memory alone, and those that the engine does not run.
    """
    runs = lookup(ENGINES, "engine", kind).options.get("runs")
    elsewhere = runs is not None and options.get("runs", runs.default) != asked.role
    return kind == "local" or not asked.place or elsewhere


def engine_of_recipe(kind: str, options: Mapping[str, Any], asked: AskedModel) -> Engine:
    """The engine that a recipe names, or this process where that one does not run the model.

    Args:
        kind: name of a row.
        options: of the engine.
        asked: a model of the recipe.

    Raises:
        ServerError: a server is away.
    """
    return local(asked) if runs_here(kind, options, asked) else make_engine(kind, options, asked)


def what_decides(kind: str, options: Mapping[str, Any], *, ask: bool = False) -> dict[str, Any]:
    """An engine as it is known again: its kind, and the options that decide what is answered.

    Args:
        kind: name of a row.
        options: of the engine.
        ask: find out from whoever runs the model what the options leave open.

    Raises:
        ConfigError: an option that cannot be right.
        ServerError: a server is away.
    """
    row = lookup(ENGINES, "engine", kind)
    decides = row.decides if isinstance(row, EngineKind) else None
    return {"kind": kind, **(dict(options) if decides is None else decides(options, ask=ask))}
