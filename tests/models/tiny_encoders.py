"""Random encoders and cross-encoders of a few tokens, in the files of real ones."""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = [*"abcde:[]", "red", "green", "blue", "cat", "dog", "tree", "query", "sep", "un", "##known", "##s", "##ing"]
VOCABULARY = {token: n for n, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
MAX_TOKENS = 12


def write_sentence_encoder(folder, *, pooling="mean", prompts=None, seed=0, max_tokens=MAX_TOKENS):
    """A two-layer BERT with the files of sentence-transformers."""
    _bert(BertModel, seed).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    modes = {
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    parts = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    _write(folder / "modules.json", [_module(n, paths[n], parts[n]) for n in range(3)])
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **modes})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}
    _write(folder / "config_sentence_transformers.json", {"__version__": versions, "prompts": prompts or {}})
    return folder


def write_static_encoder(folder, *, width=16, seed=0, dtype="float32"):
    """A table of token vectors with the files of model2vec."""
    from safetensors.numpy import save_file

    vectors = torch.randn(len(VOCABULARY), width, generator=torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": vectors.numpy().astype(dtype)}, folder / "model.safetensors")
    _core().save(str(folder / "tokenizer.json"))
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": width, "normalize": True}
    _write(folder / "config.json", config)
    _write(folder / "modules.json", [_module(0, ".", "StaticEmbedding"), _module(1, "1_Normalize", "Normalize")])
    return folder


def write_cross_encoder(folder, *, labels=1, seed=0):
    """A two-layer BERT with a head of so many scores."""
    _bert(BertForSequenceClassification, seed, num_labels=labels).save_pretrained(folder)
    _tokenizer(model_max_length=24).save_pretrained(folder)
    return folder


def _bert(kind, seed, **fields):
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        **fields,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        # Weights so large that each token's vector hangs on all tokens.
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.5)
    return model


def _core():
    core = Tokenizer(models.WordPiece(vocab=VOCABULARY, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[SEP]", VOCABULARY["[SEP]"]), ("[CLS]", VOCABULARY["[CLS]"])]
    core.post_processor = processors.BertProcessing(*ends)
    return core


def _tokenizer(**fields):
    names = {name: f"[{name[:-6].upper()}]" for name in ("unk_token", "pad_token", "cls_token", "sep_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=_core(),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
        **fields,
    )


def _module(n, path, kind):
    return {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
