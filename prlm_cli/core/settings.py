"""Every setting: default, limits and help, once."""

# Without `annotations` from __future__, which would leave each annotation to be compiled when the program runs.

from typing import Annotated, Literal, get_args

from msgspec import Meta, field

from prlm_cli.core.dates import parse_period
from prlm_cli.core.errors import did_you_mean
from prlm_cli.core.sections import (
    Count,
    Natural,
    NotNegative,
    Positive,
    Section,
    Share,
    WrongSetting,
)

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
Layout = Literal["completion", "turns", "document"]
Precision = Literal["auto", "bf16"]
RetrieverName = Literal["bm25", "bm25+", "bm25l", "atire", "robertson", "dense", "hybrid", "recency", "random", "none"]
Engine = Literal["local", "ray"]
RewardScale = Literal["none", "group", "batch", "running"]
Tracker = Literal["tensorboard", "trackio", "wandb"]
Action = Literal["warn", "stop", "off"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
STAGES = ("train-reward", "train-policy", "eval")
"""What a recipe can do, in this order; eval answers the test queries and scores the answers."""
PAIR_KINDS = (
    *(
        f"{chosen}>{rejected}"
        for chosen in ("target", "own", "zero_shot")
        for rejected in ("own", "zero_shot", "swapped", "swapped_near", "neighbour")
        if chosen != rejected
    ),
    "best>worst",
)
"""Which answers to a query can be chosen over which; `pipeline.candidates` says what they are."""


class ModelSettings(Section, kw_only=True, frozen=True):
    """The base model and its adapters."""

    name: Annotated[str, "Base model: a local folder, a cached or hub model, or the default."] = EMBEDDED_MODEL
    qlora: Annotated[bool, "Load the base model in 4 bits (NF4) and train an adapter on it."] = False
    precision: Annotated[Precision, "Of the base model: auto is bf16 on a GPU that has it and fp32 on a CPU."] = "auto"
    lora_r: Annotated[Count, "Rank of the adapters."] = 16
    lora_alpha: Annotated[Count, "Scale of the adapters."] = 32


class RetrievalSettings(Section, kw_only=True, frozen=True):
    """Which records of the user's history a prompt gets."""

    retriever: Annotated[RetrieverName, "How records are ranked."] = "bm25"
    k: Annotated[Natural, "How many records of the user's own history to retrieve."] = 4
    undated: Annotated[Literal["drop", "keep"], "Undated records when a filter of dates acts."] = "drop"
    as_of: Annotated[str | None, "Only records older than this date, whatever the query's."] = None
    since: Annotated[str | None, "Only records of this date or newer."] = None
    where: Annotated[list[str], "Only records whose meta has key=value; repeatable."] = field(default_factory=list)
    min_score: Annotated[float | None, "Only records that score more than this."] = None
    dedupe: Annotated[bool, "Of records with the same text, only the newest."] = False
    mmr: Annotated[Share | None, "Diversity: 1 ranks by score alone, 0 by novelty alone."] = None
    rerank: Annotated[bool, "Order the best candidates anew with a cross-encoder."] = False
    candidates: Annotated[Count, "How many of the best --rerank and --mmr choose from."] = 50
    corpus: Annotated[Literal["own", "shared"], "Own records, or fused with the shared corpus."] = "own"
    encoder: Annotated[str, "Sentence encoder of dense retrieval."] = "all-MiniLM-L6-v2"
    cross_encoder: Annotated[str, "Model of --rerank."] = "cross-encoder/ms-marco-MiniLM-L6-v2"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, date in (("as_of", self.as_of), ("since", self.since)):
            try:
                if date is not None:
                    parse_period(date)
            except (ValueError, OverflowError) as error:
                raise WrongSetting(name, "a date, such as 2024-05-17") from error


class PromptSettings(Section, kw_only=True, frozen=True):
    """How a query and its records become a prompt."""

    task: Annotated[str, "What is asked for: names the parts of the prompt."] = "titles"
    layout: Annotated[
        Literal["auto", "completion", "turns", "document"],
        "Form of the prompt; auto is what measured best for the model.",
    ] = "auto"
    reasoning: Annotated[
        Literal["auto", "on", "off"],
        "Reason in <think> before answering; auto: on in training, then as the run was trained.",
    ] = "auto"
    max_tokens: Annotated[int, Meta(ge=64), "Longest prompt, in tokens; records are cut to fit."] = 384
    card: Annotated[bool, "A line of the author's habits above the records, counted over the whole history."] = False


class GenerationSettings(Section, kw_only=True, frozen=True):
    """Decoding."""

    engine: Annotated[Literal["hf", "openai"], "Who decodes: the model in this process, or a server."] = "hf"
    batch_size: Annotated[Count, "Prompts decoded together."] = 32
    temperature: Annotated[NotNegative, "Sampling temperature; 0 decodes greedily."] = 0.0
    max_new_tokens: Annotated[
        Count | None, "Longest completion; default 96 with reasoning, else 24; 488 more for long texts."
    ] = None


class ServerSettings(Section, kw_only=True, frozen=True):
    """The server of the engine `openai`: any that speaks OpenAI's chat completions."""

    url: Annotated[str, "Where its API begins, such as http://localhost:8000/v1."] = "https://api.openai.com/v1"
    model: Annotated[str, "What it calls the model."] = ""
    key_variable: Annotated[str, "Environment variable that holds the key; the key itself is never stored."] = (
        "OPENAI_API_KEY"
    )
    timeout: Annotated[Positive, "Seconds to wait for an answer."] = 120.0
    retries: Annotated[Natural, "How often to ask again after an error that may pass."] = 5
    backoff: Annotated[NotNegative, "Seconds before asking again; doubled each time, at most a minute."] = 1.0
    concurrency: Annotated[Count, "Questions asked at the same time."] = 8


class JudgeSettings(Section, kw_only=True, frozen=True):
    """The judges of open answers, and multiple choice, in `eval --suite`."""

    by: Annotated[list[str], "Judges: policy, openai, reward-model or reward-model:NAME; two give their agreement."] = (
        field(default_factory=list)
    )
    orders: Annotated[Natural, "In how many orders options are shown; 0: each has each letter once."] = 0
    max_tokens: Annotated[int, Meta(ge=256), "Longest question to a judge; its parts are cut to fit."] = 1536
    max_new_tokens: Annotated[Count, "Longest verdict or choice; a model that reasons first needs more."] = 16
    users: Annotated[Count, "Simulated users of PersonalLLM."] = 50
    interactions: Annotated[Count, "Earlier choices of each simulated user."] = 25


class PairsSettings(Section, kw_only=True, frozen=True):
    """The contrastive pairs of the reward model."""

    policy: Annotated[
        str, "Who writes the answers: none (the untuned model), warm-start, a run; auto: the better of the first two."
    ] = "auto"
    kinds: Annotated[list[str], "Which answers are chosen over which, CHOSEN>REJECTED."] = field(
        default_factory=lambda: [
            "own>zero_shot",
            "own>swapped",
            "own>swapped_near",
            "target>swapped",
            "target>swapped_near",
            "best>worst",
        ]
    )
    swapped: Annotated[bool, "Kinds of pairs that put another user's records beside this user's query."] = True
    samples: Annotated[
        int, Meta(ge=2), "Completions drawn for each query; the better half is chosen over the worse."
    ] = 8
    temperature: Annotated[Positive, "Sampling temperature of these draws."] = 0.7
    max_queries: Annotated[int, Meta(ge=2), "How many training queries to write answers for."] = 48
    length_skew: Annotated[
        Share, "By which share of a kind longer chosen answers may outnumber shorter, or the reverse; 1 keeps all."
    ] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds:
            raise WrongSetting("kinds", "at least one kind of pairs", hint=f"known: {', '.join(PAIR_KINDS)}")
        for kind in self.kinds:
            if kind not in PAIR_KINDS:
                raise WrongSetting(
                    "kinds", f"kinds of pairs, and '{kind}' is none", hint=did_you_mean(kind, PAIR_KINDS)
                )


class RewardSettings(Section, kw_only=True, frozen=True):
    """The personalisation reward model."""

    model: Annotated[str | None, "Encoder or causal model that scores; default: the policy's base model."] = None
    profile: Annotated[bool, "Show the profile to the reward model; the paper's does not see it."] = True
    echo: Annotated[bool, "Start from the echo rule: the model learns what the rule does not know."] = True
    twin: Annotated[bool, "Train the same model blind to the profile beside it, to compare with."] = True
    steps: Annotated[Count | None, "Optimiser steps; default: what reward.epochs takes."] = None
    epochs: Annotated[Positive, "Passes over the training queries, where reward.steps is not set."] = 1.5
    batch_size: Annotated[Count, "Queries a step; each brings all of its pairs."] = 4
    micro_batch: Annotated[Count, "Queries a forward pass; more of them take more memory."] = 1
    learning_rate: Annotated[Positive | None, "Peak learning rate; default: 2e-4, for an encoder 5e-5."] = None
    schedule: Annotated[Literal["cosine", "linear"], "How the learning rate falls."] = "cosine"
    warmup: Annotated[Share, "Share of the steps in which the learning rate rises."] = 0.1
    kind_weights: Annotated[dict[str, NotNegative], "Weight of each kind of pair; 1 where none is named."] = field(
        default_factory=lambda: {"best>worst": 0.5}
    )
    user_weights: Annotated[
        Literal["equal-pairs", "equal-users"], "Whether each pair weighs the same, or each user."
    ] = "equal-pairs"
    margin: Annotated[NotNegative, "By how much the chosen answer is to score above the rejected one."] = 0.0
    interaction: Annotated[NotNegative, "Weight of the interaction of profile and answer in the loss."] = 1.0
    max_tokens: Annotated[int, Meta(ge=64), "Longest input, the answer aside: profile and query."] = 320
    max_answer_tokens: Annotated[int, Meta(ge=8), "Longest answer; what goes beyond is cut off."] = 128
    heldout_share: Annotated[float, Meta(gt=0, lt=1), "Share of users, by a hash of the id, kept for the test."] = 0.2
    heldout_queries: Annotated[
        float, Meta(ge=0, lt=1), "Share of the other users' queries, by a hash of the id, kept for the test."
    ] = 0.1
    validation_share: Annotated[
        float, Meta(ge=0, lt=1), "Share of the training pairs, drawn at random, kept to validate as the paper does."
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.micro_batch:
            raise WrongSetting("micro_batch", f"a divisor of the {self.batch_size} queries of a step")


class DiagnosticsSettings(Section, kw_only=True, frozen=True):
    """The diagnostics of a reward model, in `eval --reward-model`; `train-reward` draws no completions."""

    samples: Annotated[Natural, "Completions drawn for each held-out query, for best-of-n; 0 draws none."] = 8
    queries: Annotated[Count, "How many queries of each part completions are drawn for."] = 32
    temperature: Annotated[Positive, "Sampling temperature of the draws."] = 0.7


class WarmStartSettings(Section, kw_only=True, frozen=True):
    """The short supervised run before GRPO."""

    kind: Annotated[
        Literal["auto", "none", "answers", "traces", "star"],
        "What it imitates: the users' answers, these after a trace of reasoning, or the model's own best samples.",
    ] = "auto"
    steps: Annotated[Count, "Optimiser steps."] = 40
    batch_size: Annotated[Count, "Examples a step."] = 4
    micro_batch: Annotated[Count | None, "Examples a forward pass; default: all of a step."] = None
    learning_rate: Annotated[Positive, "Peak learning rate."] = 5e-4
    policy: Annotated[str | None, "Policy run that draws the samples of star; default: the untrained model."] = None
    max_queries: Annotated[Count, "How many training queries star draws samples for."] = 160
    samples: Annotated[int, Meta(ge=2), "Samples a query, of which star keeps the best."] = 8
    temperature: Annotated[Positive, "Sampling temperature of star."] = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise WrongSetting("micro_batch", f"a divisor of the {self.batch_size} examples of a step")


class PolicySettings(Section, kw_only=True, frozen=True):
    """GRPO."""

    reward_model: Annotated[str | None, "Reward model run, or none; default: the newest one."] = None
    start_from: Annotated[str | None, "Policy run whose adapter training goes on from."] = None
    steps: Annotated[Count, "Optimiser steps of GRPO."] = 24
    prompts_per_step: Annotated[Count, "Prompts a step; completions a step are this times G."] = 2
    num_generations: Annotated[int, Meta(ge=2), "Rollouts per prompt, G."] = 8
    learning_rate: Annotated[Positive, "Peak learning rate, cosine decay."] = 1e-4
    temperature: Annotated[Positive, "Sampling temperature of the rollouts."] = 0.7
    profile_noise: Annotated[
        Share, "Share of prompts with fewer records, in random order, some irrelevant ones of the same user."
    ] = 0.0
    max_new_tokens: Annotated[Count | None, "Longest rollout; default as in generation."] = None
    rollouts: Annotated[Literal["hf", "vllm"], "Who writes the rollouts: the model itself, or vLLM beside it."] = "hf"
    sampling: Annotated[
        Literal["auto", "stream", "rows"],
        "Random numbers of the rollouts: one stream for all, or one each, the same with any number of processes; auto: "
        "one each where there are several processes.",
    ] = "auto"
    shard_base: Annotated[
        bool, "Keep a part of the base's weights in each of several processes; whole, layer by layer, for an update."
    ] = False
    loss_type: Annotated[
        Literal["grpo", "dr_grpo", "dapo", "gspo"], "Normalisation of the loss; gspo has one ratio a completion."
    ] = "dapo"
    num_iterations: Annotated[Count, "Optimiser steps on the same rollouts; from 2 on, ratios and clips act."] = 1
    scale_rewards: Annotated[Literal["group", "batch", "none"], "What advantages are divided by."] = "group"
    beta: Annotated[NotNegative, "Weight of the KL term against the start."] = 0.0
    epsilon: Annotated[Positive, "Lower clip of the ratio."] = 0.2
    epsilon_high: Annotated[Positive, "Upper clip of the ratio."] = 0.28
    entropy_coef: Annotated[NotNegative, "Weight of the entropy in the loss; above 0, the policy explores."] = 0.0
    max_grad_norm: Annotated[Positive, "Gradient clipping."] = 0.2
    micro_batch_tokens: Annotated[
        Count | None,
        "Most tokens of a forward pass, which changes memory alone; default: a prompt and its completions.",
    ] = None
    gradient_checkpointing: Annotated[
        Literal["auto", "on", "off"], "Compute activations again instead of keeping them; auto: on a GPU."
    ] = "auto"
    save_steps: Annotated[Count, "Steps between checkpoints."] = 8
    eval_steps: Annotated[Count, "Steps between held-out evaluations."] = 8
    eval_queries: Annotated[Natural, "Dev queries that choose the best adapter; 0 keeps the last."] = 12
    eval_swapped: Annotated[
        bool, "Judge dev queries with another user's records as well: whether the policy uses the profile."
    ] = False
    early_stop: Annotated[Count | None, "Held-out evaluations without a gain that end the run; default: none do."] = (
        None
    )
    samples: Annotated[bool, "Keep what the policy writes to a few queries over time: users' text in the run."] = False
    trackers: Annotated[
        list[Tracker], "Send each step's figures to tensorboard, trackio or wandb, each an extra of its name."
    ] = field(default_factory=list)
    rewards: Annotated[
        dict[str, float], "Weight of each reward: its name, metric:NAME, or package.module:function; 0 is without it."
    ] = field(default_factory=lambda: {"overlap": 1.0, "format": 0.1, "personalization": 0.1})
    normalise: Annotated[
        dict[str, RewardScale],
        "What each reward is standardised over before it is weighed; none where none is named.",
    ] = field(default_factory=dict)
    contrast: Annotated[
        Literal["none", "swapped"], "swapped: what an answer shares with another user's is taken from its reward."
    ] = "none"
    zero_variance: Annotated[
        Literal["keep", "skip", "resample"],
        "Prompts whose rollouts all get one reward: keep them, leave them out, or try others before that.",
    ] = "keep"
    resample_rounds: Annotated[Count, "How often others are tried, with zero_variance=resample."] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save_steps % self.num_iterations:
            # Rollouts are not saved: a run can only go on where new ones are drawn.
            raise WrongSetting("save_steps", f"a multiple of the {self.num_iterations} steps of num_iterations")


class WatchdogSettings(Section, kw_only=True, frozen=True):
    """From where on a figure of GRPO is a problem; each signal has the name of its threshold."""

    window: Annotated[Count, "Steps that figures are averaged over; the first of them are the start."] = 10
    reward: Annotated[Positive, "Fall of the reward below its best, in standard deviations of completions."] = 1.0
    zero_variance: Annotated[Share, "Share of groups whose rewards are all the same."] = 0.5
    unscored: Annotated[Share, "Share of completions that no reward scores."] = 0.0
    length: Annotated[float, Meta(gt=1), "Times that completions are longer, or shorter, than at the start."] = 2.0
    clipped: Annotated[Share, "Share of completions cut at the token limit."] = 0.3
    format: Annotated[Share, "Fall of the share of well-formed completions since the start; 0 of them always is."] = 0.2
    entropy: Annotated[Share, "Share of the entropy at the start."] = 0.35
    copying: Annotated[Share, "Rise of the share of the answer that is copied from a record's title."] = 0.2
    thoughts: Annotated[Share, "Share of thoughts that are, word for word, those to another query of the step."] = 0.5
    clip_ratio: Annotated[Share, "Share of ratios that are clipped, where policy.num_iterations is above 1."] = 0.2
    reward_hacking: Annotated[
        float, Meta(ge=-1, le=0), "Rank correlation of the reward model's opinion, rising, with overlap, falling."
    ] = -0.7
    gradient: Annotated[float, Meta(gt=1), "Times that a gradient is larger than the median; 0 thrice always is."] = (
        10.0
    )
    kl: Annotated[Positive, "Nats a token from the start, where policy.beta is above 0."] = 0.2
    profile_ignored: Annotated[
        float, "What the lower end of own minus another user's held-out score must exceed (policy.eval_swapped)."
    ] = 0.0
    actions: Annotated[
        dict[str, Action], "What a signal does: stop (keeping the best adapter), off, or warn, where none is named."
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        signals = set(self.__struct_fields__) - {"window", "actions"}
        for name in self.actions:
            if name not in signals:
                raise WrongSetting("actions", f"signals, and '{name}' is none", hint=did_you_mean(name, signals))


class EvalSettings(Section, kw_only=True, frozen=True):
    """Evaluation."""

    metrics: Annotated[list[str], "Metrics to report."] = field(
        default_factory=lambda: [
            "rouge1",
            "rouge2",
            "rougeL",
            "exact_match",
            "format_rate",
            "extract_fail",
            "copy_rate",
        ]
    )
    bootstrap: Annotated[int, Meta(ge=100), "Resamples of users behind each interval."] = 2000
    report_text: Annotated[bool, "Show examples with their users' text in a report."] = True
    report_users: Annotated[Literal["numbers", "ids"], "How a report names users."] = "numbers"
    leaderboard: Annotated[bool, "Report what LaMP's leaderboard has for the task of the generations instead."] = False
    processes: Annotated[Natural, "Processes that score more than a thousand generations; 0 is one a core."] = 0


class Config(Section, kw_only=True, frozen=True):
    """One resolved configuration; stored with each run."""

    seed: Annotated[Natural, "Seed of everything random."] = 0
    model: ModelSettings = ModelSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    prompt: PromptSettings = PromptSettings()
    generation: GenerationSettings = GenerationSettings()
    server: ServerSettings = ServerSettings()
    judge: JudgeSettings = JudgeSettings()
    pairs: PairsSettings = PairsSettings()
    reward: RewardSettings = RewardSettings()
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    policy: PolicySettings = PolicySettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    eval: EvalSettings = EvalSettings()


class RunSettings(Section, kw_only=True, frozen=True):
    """The table `run` of a recipe: what `prlm run` does with the other tables."""

    stages: Annotated[list[str], "Stages, in order."] = field(default_factory=lambda: list(STAGES))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages or self.stages != [stage for stage in STAGES if stage in self.stages]:
            raise WrongSetting(
                "stages", f"some of {', '.join(STAGES)}, in this order", hint="leave out what is not to be"
            )
