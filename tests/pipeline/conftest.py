from __future__ import annotations

from types import SimpleNamespace

import pytest

from prlm_cli.core import jsonl
from prlm_cli.core.configuration import resolve
from prlm_cli.core.settings import RetrievalSettings
from prlm_cli.pipeline import train_policy as module
from prlm_cli.pipeline.policies import Policy
from prlm_cli.pipeline.retrieve import retrieve
from prlm_cli.retrievers import RETRIEVERS
from prlm_cli.training import supervised
from tests.models.tiny_encoders import write_static_encoder
from tests.pipeline.canaries import Corpus, indexed_workspace
from tests.pipeline.small import asked, indexed

_WITH_A_MODEL = ("dense", "hybrid")


@pytest.fixture
def workspace(tmp_path):
    return indexed(tmp_path)


@pytest.fixture
def queries(workspace):
    with workspace.open_store() as store:
        return asked(store, resolve())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a tiny static encoder."""
    pytest.importorskip("model2vec", reason="NOT RUN: needs the extra dense")
    return str(write_static_encoder(tmp_path_factory.mktemp("static")))


@pytest.fixture(scope="module", params=list(RETRIEVERS))
def ranking(request):
    """The settings of each retriever, with an encoder where it needs one."""
    needed = {"encoder": request.getfixturevalue("encoder")} if request.param in _WITH_A_MODEL else {}
    return {"retriever": request.param, **needed}


@pytest.fixture
def place(tmp_path):
    """A small workspace and its corpus: an index with vectors, rejected lines, and a file of retrieved records."""
    corpus = Corpus("ab", documents=3)
    workspace = indexed_workspace(tmp_path, corpus)
    with workspace.open_store() as store:
        jsonl.write(workspace.folder / "retrieved.jsonl", retrieve(store, store.queries(), RetrievalSettings()))
    return workspace, corpus


@pytest.fixture
def rows(monkeypatch):
    """The examples of each training, which does nothing else."""
    found = []
    monkeypatch.setattr(
        supervised, "train_supervised", lambda model, tokenizer, examples, *_, **__: found.append(examples)
    )
    return found


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, instead of the training."""
    found = SimpleNamespace(config=None, reward_model=None, policy=None)

    def keep(run, policy, job, context, reporter):
        found.policy, found.config, found.reward_model = policy, job.config, context.reward_model
        run.finish({})

    monkeypatch.setattr(module, "_train", keep)
    return found


@pytest.fixture
def reward_model(monkeypatch):
    """Loads reward models as their run's name; `finish` makes a finished run."""
    monkeypatch.setattr(module, "load_reward_model", lambda run, reporter, base: run.name)

    def finish(workspace, name, gate):
        run = workspace.new_run("reward", name)
        run.start("reward", "")
        run.finish({"gate": gate, "accuracy": {}, "interaction": None})

    return finish


@pytest.fixture
def lively(monkeypatch):
    """A random model writes neither form nor overlap: completions that end, and a reward with spread."""
    from tests.training.grpo_runs import lengths  # here: most tests need no TRL

    monkeypatch.setattr(Policy, "stop_ids", list(range(0, 258, 4)))
    monkeypatch.setattr(module, "_rewards", lambda config, context: {"measure": (lengths, 1.0)})
