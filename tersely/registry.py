"""Names for stages and plans: tables of addresses, opened only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tersely.contracts import Backend, Stage
from tersely.errors import ConfigError, MissingExtra, UnknownName, first_fault

if TYPE_CHECKING:
    from tersely.collection import Collection
    from tersely.plans import Plan
    from tersely.retrieval import Embedder
    from tersely.training import TrainerModel

GROUP = "tersely.stages"
"""The entry point group under which other packages add stages."""

STAGES: dict[str, str] = {
    "attention": "tersely.compressors.attention:Attention",
    "auto": "tersely.compressors.auto:Auto",
    "autocompressor": "tersely.compressors.autocompressor:AutoCompressor",
    "cached": "tersely.compressors.cached:Cached",
    "code": "tersely.compressors.code:Code",
    "cot_influx": "tersely.compressors.cot_influx:CoTInflux",
    "diff": "tersely.compressors.diffs:Diff",
    "dynaicl": "tersely.compressors.dynaicl:DynaICL",
    "ensemble": "tersely.compressors.ensemble:Ensemble",
    "extractive": "tersely.compressors.extractive:Extractive",
    "gist": "tersely.compressors.gist:Gist",
    "html": "tersely.compressors.html:Html",
    "icae": "tersely.compressors.icae:Icae",
    "json": "tersely.compressors.json_stage:Json",
    "lexical": "tersely.compressors.lexical:Lexical",
    "llmlingua": "tersely.compressors.llmlingua:LLMLingua",
    "llmlingua2": "tersely.compressors.llmlingua2:LLMLingua2",
    "logs": "tersely.compressors.logs:Logs",
    "longllmlingua": "tersely.compressors.longllmlingua:LongLLMLingua",
    "markdown": "tersely.compressors.markdown:Markdown",
    "none": "tersely.compressors.baselines:Nothing",
    "pcrl": "tersely.compressors.pcrl:PCRL",
    "query": "tersely.compressors.query:Query",
    "random": "tersely.compressors.baselines:Random",
    "ratios": "tersely.compressors.ratios:Ratios",
    "recomp": "tersely.compressors.recomp:Recomp",
    "retrieve": "tersely.rag.retrieve:Retrieve",
    "rows": "tersely.compressors.rows:Rows",
    "search_hits": "tersely.compressors.search_hits:SearchHits",
    "selective_context": "tersely.compressors.selective_context:SelectiveContext",
    "soft": "tersely.compressors.soft:Soft",
    "stdc": "tersely.compressors.stdc:STDC",
    "summary": "tersely.compressors.summary:Summary",
    "truncate": "tersely.compressors.baselines:Truncate",
}

PLANS: dict[str, str] = {
    "apar": "tersely.sot.plan_apar:Apar",
    "flare": "tersely.rag.plan_flare:Flare",
    "history": "tersely.compressors.history:History",
    "rag": "tersely.rag.plan_rag:Rag",
    "replug": "tersely.rag.plan_replug:Replug",
    "self_rag": "tersely.rag.plan_self_rag:SelfRag",
    "sot": "tersely.sot.plan_sot:Sot",
    "summarise": "tersely.compressors.summarise:Summarise",
    "two_hop": "tersely.rag.plan_two_hop:TwoHop",
}

EMBEDDERS: dict[str, str] = {
    "http": "tersely.rag.embed_http:Http",
    "langchain": "tersely.rag.embed_langchain:LangChain",
    "onnx": "tersely.rag.embed_onnx:Onnx",
    "sentence_transformers": "tersely.rag.embed_sentence_transformers:SentenceTransformers",
    "static": "tersely.rag.embed_static:Static",
}

COLLECTIONS: dict[str, str] = {
    "faiss": "tersely.rag.collection:FileCollection",
}

TRAINERS: dict[str, str] = {
    "autocompressor": "tersely.compressors.train_autocompressor:AutoCompressorTrainer",
    "definition": "tersely.compressors.train_definition:SearchDefinition",
    "demonstrations": "tersely.compressors.train_demonstrations:DemonstrationsTrainer",
    "gist": "tersely.compressors.train_gist:GistTrainer",
    "heads": "tersely.compressors.train_heads:HeadsTrainer",
    "icae": "tersely.compressors.train_icae:IcaeTrainer",
    "policy": "tersely.compressors.train_policy:PolicyTrainer",
    "pruner": "tersely.compressors.train_pruner:WordPruner",
    "router": "tersely.sot.train_router:RouterTrainer",
    "sentences": "tersely.compressors.train_sentences:Sentences",
    "shots": "tersely.compressors.train_shots:Shots",
    "soft": "tersely.compressors.train_soft:SoftTrainer",
}

BACKENDS: dict[str, str] = {
    "http": "tersely.backends.http:HttpBackend",
    "langchain": "tersely.backends.langchain:LangChainBackend",
    "llamacpp": "tersely.backends.llamacpp:LlamaCppBackend",
    "local": "tersely.backends.local:LocalBackend",
    "scripted": "tersely.backends.scripted:ScriptedBackend",
    "several": "tersely.backends.several:Several",
}


@cache
def addresses() -> dict[str, str]:
    """Where each stage lies. Ours go before other packages' of the same name."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | STAGES


def stage_type(name: str, /) -> type[Any]:
    """The class (or function) registered under a name. Raises UnknownName."""
    known = addresses()
    if name not in known:
        raise UnknownName("stage", name, known)
    return _open(known[name])


def stage(name: str, /, **settings: Any) -> Stage:
    """Build the stage of that name.

    Raises UnknownName with the nearest names, and ConfigError that tells which setting is
    wrong and why.
    """
    built = _built("stage", name, stage_type(name), settings)
    if not isinstance(built, Stage):
        raise ConfigError(f"stage {name!r}: {type(built).__name__} lacks `kinds` or `needs`")
    return built


def as_stage(source: Any, /) -> Stage:
    """A stage from itself, its registry name, or `{name: {setting: value}}`.

    Raises ConfigError, and what `stage` raises.
    """
    if isinstance(source, str):
        return stage(source)
    if isinstance(source, Mapping):
        if len(source) != 1:
            raise ConfigError(f"a stage is one name with its settings, was {dict(source)!r}")
        ((name, settings),) = source.items()
        return stage(str(name), **(settings or {}))
    if isinstance(source, Stage):
        return source
    raise ConfigError(f"a stage is a name, a mapping or a Stage, was {source!r}")


def spelled(stage: Any, /) -> str | dict[str, Any]:
    """A stage or an embedder as its name, or `{name: {setting: value}}` with what is no default.

    `as_stage` reads it back. Raises ConfigError when it has no registry name.
    """
    name = getattr(stage, "name", None)
    if not isinstance(stage, BaseModel) or not name:
        raise ConfigError(f"{stage!r} can't be spelled out: it has no registry name")
    settings = stage.model_dump(mode="json", exclude_defaults=True)
    return {str(name): settings} if settings else str(name)


def backend(name: str, /, **settings: Any) -> Backend:
    """Build the backend of that name. Raises as `stage` does."""
    if name not in BACKENDS:
        raise UnknownName("backend", name, BACKENDS)
    built: Backend = _built("backend", name, _open(BACKENDS[name]), settings)
    return built


def plan(name: str, /, **settings: Any) -> Plan:
    """Build the plan of that name. Raises as `stage` does."""
    if name not in PLANS:
        raise UnknownName("plan", name, PLANS)
    built: Plan = _built("plan", name, _open(PLANS[name]), settings)
    return built


def embedder(name: str, /, **settings: Any) -> Embedder:
    """Build the embedder of that name. Raises as `stage` does."""
    if name not in EMBEDDERS:
        raise UnknownName("embedder", name, EMBEDDERS)
    built: Embedder = _built("embedder", name, _open(EMBEDDERS[name]), settings)
    return built


def collection(name: str, /, **settings: Any) -> Collection:
    """Build the collection of that name. Raises as `stage` does."""
    if name not in COLLECTIONS:
        raise UnknownName("collection", name, COLLECTIONS)
    built: Collection = _built("collection", name, _open(COLLECTIONS[name]), settings)
    return built


def trainer(name: str, /, **settings: Any) -> TrainerModel:
    """Build the trainer of that name. Raises as `stage` does."""
    if name not in TRAINERS:
        raise UnknownName("trainer", name, TRAINERS)
    built: TrainerModel = _built("trainer", name, _open(TRAINERS[name]), settings)
    return built


def _built(what: str, name: str, made: type[Any], settings: dict[str, Any]) -> Any:
    try:
        return made(**settings)
    except ValidationError as error:
        raise ConfigError(f"{what} {name!r}: {first_fault(error)}") from error
    except TypeError as error:
        raise ConfigError(f"{what} {name!r}: {error}") from error


def _open(address: str) -> type[Any]:
    module, _, attribute = address.partition(":")
    try:
        found: type[Any] = getattr(import_module(module), attribute)
    except MissingExtra:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{address} can't be opened: {error}") from error
    return found
