"""Every flag of the training loop, with nanochat's names; presets in recipes/configs set them by YAML."""

from dataclasses import dataclass

from recipes.arguments import flag
from recipes.errors import InputError


@dataclass
class LoopArguments:
    """What pretraining and midtraining share."""

    # Data
    packing: str = flag(
        "auto",
        "best_fit (whole documents, what is cropped is dropped), best_fit_split (nothing is dropped) or concatenated; "
        "auto: best_fit, or best_fit_split where a run would see the beginnings of documents again before their ends",
    )
    num_workers: int = flag(0, "processes that tokenize and pack ahead, for each training process")
    # Model
    max_seq_len: int = flag(2048, "tokens a row (context length)")
    gradient_checkpointing: bool = flag(False, "recompute activations in the backward pass: less memory, slower")
    # Horizon and batch
    num_iterations: int | None = flag(None, "optimizer steps")
    device_batch_size: int = flag(32, "rows that one process handles at a time; halved when memory runs out")
    total_batch_size: int | None = flag(None, "tokens an optimizer step, all processes together (default: by rule)")
    # Optimization
    optimizer: str = flag("muon", "muon, adamw or one registered by register_optimizer")
    matrix_lr: float = flag(0.02, "Muon's learning rate for the matrices in the blocks")
    embedding_lr: float = flag(0.2, "learning rate of the embedding, at width 768")
    unembedding_lr: float = flag(0.004, "learning rate of the head (and of adamw's matrices), at width 768")
    weight_decay: float = flag(0.0, "decoupled weight decay of the matrices")
    grad_clip: float = flag(1.0, "largest norm of the gradient; 0 for no limit")
    warmup_ratio: float | None = flag(None, "share of the steps with rising learning rate (default: by rule)")
    warmdown_ratio: float | None = flag(None, "share of the steps with falling learning rate (default: by rule)")
    final_lr_frac: float = flag(0.0, "learning rate at the end, as a share of the full one")
    # Evaluation, saving, resuming
    eval_every: int = flag(250, "steps between evaluations of bits per byte; 0: only at the end, -1: never")
    eval_tokens: int = flag(10_485_760, "tokens of the validation split an evaluation reads")
    core_metric_every: int = flag(-1, "steps between measurements of CORE; 0: only at the end, -1: never")
    core_bundle: str | None = flag(None, "directory of CORE's tasks; python -m evals.core.fetch gets one")
    core_metric_max_per_task: int = flag(500, "examples of each task that CORE is measured on")
    sample_every: int = flag(2000, "steps between samples; 0: only at the end, -1: never")
    save_every: int = flag(1000, "steps between checkpoints; 0: only at the end")
    keep_checkpoints: int = flag(2, "newest checkpoints kept; 0 keeps all")
    resume: str = flag("auto", "auto: from the newest checkpoint in output_dir; none: afresh; or a checkpoint's path")
    log_every: int = flag(1, "steps between logs")
    # Machine
    output_dir: str = flag("runs/base/base", "where checkpoints, metrics and the final model go")
    seed: int = flag(0, "seed of all that is random")
    mixed_precision: str = flag("auto", "auto: bf16 where the hardware has it, else fp16 on GPUs; or bf16, fp16, no")
    compile: str = flag("auto", "torch.compile: auto (when the run is long enough to repay it), true, false")
    log_with: str | None = flag(None, "trackers beside metrics.jsonl, comma-separated: trackio, wandb, tensorboard")
    run: str | None = flag(None, "name of the run in the trackers (default: from output_dir)")
    push_to_hub: bool = flag(False, "publish the finished model on the Hub, as recipes.publish does")
    hub_model_id: str | None = flag(None, "where to: user/name")
    hub_private_repo: bool = flag(False, "create a repository that only you can see")

    def __post_init__(self) -> None:
        # YAML reads a bare no, true or false as a truth value.
        self.mixed_precision = {False: "no"}.get(self.mixed_precision, str(self.mixed_precision).lower())
        self.compile = str(self.compile).lower()
        self._at_least(1, "max_seq_len", "device_batch_size", "eval_tokens", "log_every", "core_metric_max_per_task")
        self._at_least(0, "num_workers", "keep_checkpoints", "save_every", "grad_clip")
        self._positive("num_iterations", "total_batch_size")
        if self.core_metric_every >= 0 and self.core_bundle is None:
            raise InputError(
                "core_metric_every needs core_bundle: get one by python -m evals.core.fetch --bundle DIR."
            )
        choices = {
            "compile": ("auto", "true", "false"),
            "mixed_precision": ("auto", "bf16", "fp16", "no"),
            "packing": ("auto", "best_fit", "best_fit_split", "concatenated"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}.")

    def _positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)}: leave it out for the default.")


@dataclass
class PretrainArguments(LoopArguments):
    """Arguments of recipes/pretrain.py.

    The horizon is the first of num_iterations, target_flops and target_param_data_ratio that is set.
    """

    # Data
    dataset: str = flag("primer", "primer, a local file, directory or glob, or a Hub dataset id")
    text_column: str | None = flag(None, "column that holds the text (default: text)")
    skip_damaged: bool = flag(False, "skip damaged files and rows with a counted warning instead of stopping")
    # Model
    tokenizer: str | None = flag(None, "directory or Hub id of the tokenizer (default: that of model_name_or_path)")
    depth: int = flag(20, "the dial: number of layers; width, heads, batch, horizon and learning rates follow")
    model_config: str | None = flag(None, "train another architecture from scratch: a transformers config.json")
    model_name_or_path: str | None = flag(None, "train an existing causal LM onward")
    # Horizon
    target_flops: float | None = flag(None, "train until this many floating-point operations")
    target_param_data_ratio: float | None = flag(20.0, "tokens for each parameter (Chinchilla: 20)")
    # Plan only
    dry_run: bool = flag(False, "print the plan and stop; needs no data and no weights")
    vocab_size: int = flag(65536, "vocabulary to plan with when there is no tokenizer (dry run)")
    gpus: int = flag(8, "GPUs to plan for (dry run)")
    gpu_name: str = flag("H100", "GPU to plan for, or cpu for this machine (dry run)")
    price_per_gpu_hour: float | None = flag(None, "dollars a GPU hour to plan with (dry run)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "depth", "gpus")
        self._positive("target_flops", "target_param_data_ratio")
        if self.model_config and self.model_name_or_path:
            raise InputError("give model_config or model_name_or_path, not both.")


@dataclass
class MidtrainArguments(LoopArguments):
    """Arguments of recipes/midtrain.py. What is left out is as in the run that trained the source."""

    source: str | None = flag(None, "the base model: directory of a finished run, or Hub id")
    conversations: str | None = flag(None, "what to train on: a mixture's .yaml, a .jsonl, or the name of a source")
    packing: str = flag("auto", "as in pretraining; auto: best_fit, for the end of a conversation says little alone")
    num_workers: int = flag(0, "processes that render and tokenize the conversations before training")
    max_seq_len: int | None = flag(None, "tokens a row (default: the source's)")
    num_iterations: int | None = flag(None, "optimizer steps (default: one pass over the conversations)")
    device_batch_size: int | None = flag(
        None, "rows that one process handles at a time (default: up to 32, as divide the batch)"
    )
    total_batch_size: int | None = flag(None, "tokens an optimizer step, all processes (default: the source's)")
    init_lr_frac: float = flag(1.0, "learning rates to start with, as a share of the full ones of the source's run")
    optimizer: str | None = flag(None, "muon, adamw or a registered one (default: the source's)")
    matrix_lr: float | None = flag(None, "as in pretraining (default: the source's)")
    embedding_lr: float | None = flag(None, "as in pretraining (default: the source's)")
    unembedding_lr: float | None = flag(None, "as in pretraining (default: the source's)")
    weight_decay: float | None = flag(None, "as in pretraining (default: the source's)")
    output_dir: str = flag("runs/base/mid", "where checkpoints, metrics and the final model go")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("source", "conversations"):
            if not getattr(self, name):
                raise InputError(f"no {name}: give --{name} ({self.__dataclass_fields__[name].metadata['help']}).")
        if self.init_lr_frac <= 0:
            raise InputError(f"init_lr_frac must be positive, not {self.init_lr_frac}.")

    # What building a model and a tokenizer asks for.
    tokenizer = model_config = None

    @property
    def model_name_or_path(self) -> str:
        """The model to train onward."""
        return self.source
