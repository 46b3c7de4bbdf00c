"""The flags of SFT, DPO and GRPO: ours, and those of TRL's configurations, some of which have another default here.

Nothing here imports torch or TRL's trainers: a wrong flag is reported before they are loaded.
"""

from dataclasses import dataclass

from trl.trainer.model_config import ModelConfig

from recipes.training.arguments import LARGEST_RATE
from recipes.training.trl_config import config_fields
from recipes.training.trl_flags import TRL_FLAGS, reject_ineffective_flags
from recipes.utils.arguments import Arguments, flag
from recipes.utils.errors import InputError

SFTFields = config_fields("trl.trainer.sft_config", "SFTConfig")
DPOFields = config_fields("trl.trainer.dpo_config", "DPOConfig")
GRPOFields = config_fields("trl.trainer.grpo_config", "GRPOConfig")
PATIENCE = 7200  # seconds: recipes.utils.processes.PATIENCE, which is not imported as it brings torch along


@dataclass
class ModelArguments(Arguments, ModelConfig):
    """Flags of TRL's for precision, attention, quantization and adapters."""

    INHERITED = TRL_FLAGS

    def __post_init__(self) -> None:
        self.check_flags()
        reject_ineffective_flags(self)
        ModelConfig.__post_init__(self)


@dataclass
class PosttrainingArguments(Arguments):
    """Flags that SFT, DPO and GRPO have beside those of TRL."""

    INHERITED = TRL_FLAGS

    source: str = flag(
        "mid", "what to train: base, mid, sft or dpo beside output_dir, a directory, or a Hub id", path=True
    )
    resume: str = flag(
        "auto",
        "auto: from the newest checkpoint in output_dir; none: from scratch; or a checkpoint's path",
        path=True,
        resumable=True,
    )
    optimizer: str = flag("muon", "muon, adamw, or MODULE:FUNCTION of your own (docs/optimizers.md)")
    init_lr_frac: float = flag(
        0.02, "learning rates of this stage, as a share of pretraining's", above=0, most=LARGEST_RATE
    )
    matrix_lr: float | None = flag(
        None, "pretraining's learning rate of the matrices in the blocks (default: 0.02)", least=0, most=LARGEST_RATE
    )
    embedding_lr: float | None = flag(
        None,
        "pretraining's learning rate of the embedding, at width 768 (default: 0.2, of models of 2026 0.3)",
        least=0,
        most=LARGEST_RATE,
    )
    unembedding_lr: float | None = flag(
        None,
        "pretraining's learning rate of the head, at width 768 (default: 0.004, of models of 2026 0.008)",
        least=0,
        most=LARGEST_RATE,
    )
    logging_nan_inf_filter: bool = flag(
        False, "leave losses that are not finite out of the logged mean", resumable=True
    )
    gradient_checkpointing: bool | None = flag(
        None, "recompute activations in the backward pass: less memory, slower", resumable=True
    )
    ddp_find_unused_parameters: bool | None = flag(
        False, "look for parameters without gradient at every step", resumable=True
    )
    ddp_timeout: int = flag(
        PATIENCE, "seconds that processes wait for each other", least=1, most=10**9, resumable=True
    )

    def __post_init__(self) -> None:
        self.check_flags()
        reject_ineffective_flags(self)
        if self.save_only_model:
            raise InputError(
                "save_only_model leaves optimizer and random state out of the checkpoints, and the run could not be "
                "resumed from them: leave it out (the finished model holds no more than the model anyway)."
            )


@dataclass
class SFTArguments(PosttrainingArguments, SFTFields):
    """Flags of recipes/sft.py."""

    conversations: str = flag("primer:sft", "name of a source, a .jsonl file, or a mixture's .yaml", path=True)
    early_stopping: bool = flag(
        False, "end when the evaluation loss has not fallen for early_stopping_patience times", resumable=True
    )
    early_stopping_patience: int = flag(
        3, "evaluations without a lower loss that --early_stopping waits", least=1, resumable=True
    )
    warm_start: bool = flag(
        False, "begin with the optimizer's state at the end of the run that trained the source, if it is there"
    )
    total_batch_size: int | None = flag(
        None,
        "with packing: tokens an optimizer step, all processes together, in place of gradient_accumulation_steps",
        least=1,
    )
    warmdown_ratio: float | None = flag(
        None,
        "share of the steps with falling learning rate, after a constant one (default: as lr_scheduler_type has it)",
        least=0,
        most=1,
    )
    chatcore_every: int = flag(
        -1,
        "steps between measurements of ChatCORE, each after a checkpoint; 0: only at the end, -1: never",
        least=-1,
        resumable=True,
    )
    chatcore_tasks: str = flag(
        "arc_easy,arc_challenge,mmlu,gsm8k,humaneval",
        "tasks of evals.chat that it is measured on; NAME:PATH takes local files in place of the Hub's",
        path=True,
        resumable=True,
    )
    chatcore_max_problems: int = flag(200, "problems of each task that it is measured on", least=1, resumable=True)
    eval_rows: int = flag(1000, "held-out conversations that an evaluation reads at most", least=1, resumable=True)
    output_dir: str = flag(
        "runs/base/sft", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    assistant_only_loss: bool = flag(True, "loss on what the assistant writes only")
    max_length: int | None = flag(None, "longest conversation in tokens (default: the model's context)", least=1)
    num_train_epochs: float = flag(1.0, "passes over the conversations", above=0)
    include_num_input_tokens_seen: str = flag(
        "non_padding", "what tokens/s counts: non_padding, all or no", choices=("non_padding", "all", "no")
    )
    eval_strategy: str = flag(
        "steps", "when to evaluate: steps, epoch or no", choices=("steps", "epoch", "no"), resumable=True
    )
    eval_steps: float = flag(100, "steps between evaluations", above=0, resumable=True)
    save_steps: float = flag(
        100,
        "steps between checkpoints; the best is kept only if it is saved: as eval_steps",
        above=0,
        resumable=True,
    )
    save_total_limit: int | None = flag(
        2, "checkpoints kept: the best one and the newest others", least=1, resumable=True
    )
    load_best_model_at_end: bool = flag(
        True, "the final model is that of the lowest evaluation loss, not the last", resumable=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.load_best_model_at_end = self.load_best_model_at_end and self.eval_strategy != "no"
        if self.early_stopping and self.eval_strategy == "no":
            raise InputError("--early_stopping needs evaluations: set --eval_strategy steps or epoch.")
        if self.load_best_model_at_end and self.eval_strategy == "steps" and self.save_steps != self.eval_steps:
            raise InputError(
                f"save_steps {self.save_steps:g} must equal eval_steps {self.eval_steps:g}, or the best model might "
                "not be kept; or set --load_best_model_at_end false, to end with the last."
            )
        if self.early_stopping:
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        if self.total_batch_size is not None:
            if not self.packing:
                raise InputError("total_batch_size counts tokens of full rows: set --packing true with it.")
            if self.gradient_accumulation_steps != 1:
                raise InputError("give total_batch_size or gradient_accumulation_steps, not both.")
        if self.warmdown_ratio is not None and self.lr_scheduler_type != SFTArguments.lr_scheduler_type:
            raise InputError("give warmdown_ratio or lr_scheduler_type, not both.")


LOSSES = (  # of TRL's DPOTrainer
    *("sigmoid", "sft", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
    *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm"),
)


@dataclass
class DPOArguments(PosttrainingArguments, DPOFields):
    """Flags of recipes/dpo.py."""

    source: str = flag("sft", "what to train: base, mid or sft beside output_dir, a directory, or a Hub id", path=True)
    preferences: str = flag("primer", "primer, a .jsonl file, or a dataset of the Hub", path=True)
    eval_rows: int = flag(500, "held-out preferences that an evaluation reads at most", least=1, resumable=True)
    output_dir: str = flag(
        "runs/base/dpo", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    loss_type: list[str] = flag(
        ["sigmoid"], "sigmoid (DPO), or another of TRL's losses; of several, the weighted sum", choices=LOSSES
    )
    beta: float = flag(0.1, "how strongly the model is held to the reference model", above=0, most=1000)
    max_length: int | None = flag(None, "longest prompt and answer in tokens (default: the model's context)", least=1)
    num_train_epochs: float = flag(1.0, "passes over the preferences", above=0)
    per_device_train_batch_size: int = flag(8, "preferences that a process trains on at a time", least=1)
    include_num_input_tokens_seen: str = flag(
        "non_padding", "what tokens/s counts: non_padding, all or no", choices=("non_padding", "all", "no")
    )
    eval_strategy: str = flag(
        "steps", "when to evaluate: steps, epoch or no", choices=("steps", "epoch", "no"), resumable=True
    )
    eval_steps: float = flag(100, "steps between evaluations", above=0, resumable=True)
    save_steps: float = flag(100, "steps between checkpoints", above=0, resumable=True)
    save_total_limit: int | None = flag(2, "newest checkpoints kept", least=1, resumable=True)
    logging_steps: float = flag(1, "steps between logs", above=0, resumable=True)


@dataclass
class GRPOArguments(PosttrainingArguments, GRPOFields):
    """Flags of recipes/grpo.py. The defaults are nanochat's."""

    source: str = flag(
        "sft", "what to train: base, mid, sft or dpo beside output_dir, a directory, or a Hub id", path=True
    )
    problems: str = flag("primer", "primer, or gsm8k, or gsm8k:PATH for local files", path=True)
    max_problems: int = flag(10_000, "problems to train on at most", least=1)
    curriculum: bool = flag(True, "try more of what is solved sometimes, and less of what is always or never solved")
    sampling_rounds: int = flag(
        1,
        "try up to this many times as many problems as a step needs, until enough have replies that differ",
        least=1,
    )
    format_reward: float = flag(
        0.0, "reward for calling the calculator without an error, beside 1 for the answer", least=0
    )
    pass_every: int = flag(
        60, "steps between measurements of pass@k; 0: only before and after, -1: never", least=-1, resumable=True
    )
    pass_problems: int = flag(200, "held-out problems that pass@k is measured on", least=1, resumable=True)
    pass_samples: int = flag(8, "sampled replies to each of them: the k", least=1, most=10_000, resumable=True)
    pass_batch_size: int = flag(64, "replies that a process works on at a time for pass@k", least=1, resumable=True)
    output_dir: str = flag(
        "runs/base/grpo", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    init_lr_frac: float = flag(
        0.05, "learning rates of this stage, as a share of pretraining's", above=0, most=LARGEST_RATE
    )
    num_train_epochs: float = flag(1.0, "passes over the problems", above=0)
    per_device_train_batch_size: int = flag(16, "replies that a process trains on at a time", least=1)
    num_generations: int = flag(16, "replies to each problem, compared with each other", least=2)
    max_completion_length: int = flag(256, "tokens of a reply, calls and results included", least=1)
    top_k: int = flag(
        50,
        "replies are sampled from this many likeliest tokens, which above temperature 1 are all that the loss counts; "
        "0: from all",
        least=0,
    )
    loss_type: str = flag("dapo", "the loss is averaged over the tokens of all replies")
    scale_rewards: str = flag("none", "advantages are r - mean(r), not divided by the deviation")
    save_total_limit: int | None = flag(2, "newest checkpoints kept", least=1, resumable=True)
    logging_steps: float = flag(1, "steps between logs", above=0, resumable=True)
