"""Ready-made settings by name: what a preset sets lies over the defaults, and under everything that a user says."""

from __future__ import annotations

from typing import Any

# Constants of PrLM's released training code (method reference 1.1-1.4): LoRA r16/alpha 16, G 4, T 0.7, lr 1e-6, 2,500
# steps of one prompt, completions of 768 tokens, k 2, the library's old defaults beta 0.04 and epsilon 0.2, as reward
# model a BERT blind to the profile with 3 epochs at 5e-5 on pairs of the untuned model, a tenth of them to validate.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "model": {"lora_r": 16, "lora_alpha": 16},
        "retrieval": {"k": 2},
        "prompt": {"layout": "document", "max_tokens": 512},
        "generation": {"max_new_tokens": 768},
        "pairs": {
            "policy": "none",
            "kinds": ["own>zero_shot"],
            "swapped": False,
            "max_queries": 5000,
            "length_skew": 1.0,
        },
        "reward": {
            "model": "bert-base-uncased",
            "profile": False,
            "epochs": 3,
            "batch_size": 64,
            "micro_batch": 4,
            "learning_rate": 5e-5,
            "schedule": "linear",
            "warmup": 0,
            "interaction": 0,
            "max_tokens": 512,
            "validation_share": 0.1,
        },
        "warm_start": {"kind": "none"},
        "policy": {
            "steps": 2500,
            "prompts_per_step": 1,
            "num_generations": 4,
            "learning_rate": 1e-6,
            "temperature": 0.7,
            "max_new_tokens": 768,
            "loss_type": "grpo",
            "beta": 0.04,
            "epsilon": 0.2,
            "epsilon_high": 0.2,
            "max_grad_norm": 1.0,
        },
        "eval": {"metrics": ["rouge1_zh", "rouge2_zh", "rougeL_zh", "bleu_char", "extract_fail"]},
    },
    "lamp": {"eval": {"leaderboard": True}},
}
