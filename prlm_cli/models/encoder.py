"""Sentence encoders: texts to unit vectors, whose dot product says how near two texts are in meaning.

The files of a model say of which kind it is. `sentence-transformers` runs trained encoders, with the pooling, prompts
and length limit that their files state. `model2vec` runs static embeddings, which are looked up and averaged: less
exact, far faster, and without torch. The extra `dense` brings both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prlm_cli.core.errors import MissingError, SettingsError
from prlm_cli.core.reporting import Reporter, Silent
from prlm_cli.models.loading import fingerprint_of, resolve_model, unfit_models_named
from prlm_cli.models.packages import EMBEDDED_ENCODER
from prlm_cli.models.quiet import quiet_libraries

DEFAULT_ENCODER = EMBEDDED_ENCODER
_LIBRARIES = ("sentence_transformers", "model2vec")
_BATCH = 32


class Encoder(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: As it was asked for.
        fingerprint: Of the model's files; another one wherever the vectors can be others.
        width: D.
    """

    name: str
    fingerprint: str
    width: int

    def encode(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """The vectors of some texts: (N, D), of length 1, in the order of the texts.

        A text without a token that the model knows gets zeros. What goes beyond the model's limit is cut off.

        Args:
            texts: The more at once, the less padding.
            queries: Whether they are what is looked for. Some models have another prompt for these.
        """
        ...


def load_encoder(name: str, *, device: str | None = None, reporter: Reporter | None = None) -> Encoder:
    """The encoder of a name, on a GPU where there is one.

    Args:
        name: A local folder, or a model in a cache or on the hub.
        device: Where trained encoders run, in the words of torch. Static ones run on the CPU.
        reporter: Told about a download.

    Raises:
        MissingError: If the extra or the model is not there.
        SettingsError: If the model is no encoder of texts.
    """
    if not all(find_spec(library) for library in _LIBRARIES):
        raise MissingError("sentence encoders need the extra 'dense'", hint="pip install 'prlm[dense]'")
    reporter = reporter or Silent()
    folder = resolve_model(name, reporter)
    with unfit_models_named(name):
        is_static = _is_static(folder)
    if is_static:
        return StaticEncoder(name, folder)
    if not (folder / "modules.json").exists():
        reporter.note(f"the model {name} says nothing of pooling: the mean of its tokens is taken")
    return SentenceEncoder(name, folder, device)


class SentenceEncoder:
    """A trained encoder of `sentence-transformers`, in fp32; an `Encoder`.

    Args:
        name: As it was asked for.
        folder: Of the model.
        device: As torch names it; none for the best one here.

    Raises:
        SettingsError: If the model is no encoder of texts.
    """

    def __init__(self, name: str, folder: Path, device: str | None) -> None:
        self.name = name
        self.fingerprint = fingerprint_of(folder)
        with quiet_libraries(), unfit_models_named(name):
            import torch
            from sentence_transformers import SentenceTransformer

            # In half precision, which many models are kept in, a vector would depend on the texts beside it.
            options = {"dtype": torch.float32, "use_safetensors": True}
            self._model = SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs=options)
        # Another kind of model would open a file or an address that a text names.
        if not set(self._model.modalities) <= {"text", "message"}:
            raise SettingsError(f"the model '{name}' takes more than text", hint="name an encoder of texts")
        self.width = self.encode(["a"]).shape[1]

    def encode(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """The vectors of some texts; see `Encoder`."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        encode = self._model.encode_query if queries else self._model.encode_document
        # The library batches by length and gives the rows back in order.
        readable = [without_surrogates(text) for text in texts]
        return _unit(encode(readable, batch_size=_BATCH, show_progress_bar=False))


class StaticEncoder:
    """Static embeddings of `model2vec`; an `Encoder`.

    Args:
        name: As it was asked for.
        folder: Of the model.

    Raises:
        SettingsError: If the files are not those of such a model.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from model2vec import StaticModel

        self.name = name
        self.fingerprint = fingerprint_of(folder)
        with unfit_models_named(name):
            # Means of half-precision vectors would lose digits.
            self._model = StaticModel.from_pretrained(folder, quantize_to="float32")
        self.width = int(self._model.dim)

    def encode(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """The vectors of some texts; see `Encoder`. Queries are encoded like documents."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        readable = [without_surrogates(text) for text in texts]
        return _unit(self._model.encode(readable, use_multiprocessing=False))


def without_surrogates(text: str) -> str:
    """The text with a question mark for each lone surrogate, which no tokenizer takes."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _is_static(folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return isinstance(config, dict) and config.get("model_type") == "model2vec"


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    single = vectors.astype(np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(single, axis=1, keepdims=True)  # (N, 1)
    lengths[lengths == 0] = 1
    return single / lengths
