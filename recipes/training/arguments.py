"""Every flag of the training loop, with nanochat's names; presets in recipes/configs set them by YAML."""

from dataclasses import dataclass

from recipes.data.splits import DOCUMENT_SEPARATORS
from recipes.training.rules import OF_THE_DIAL, RULES, THREE_RATES
from recipes.utils.arguments import REQUIRED, Arguments, flag
from recipes.utils.errors import InputError, suggest
from tokenizer.special_tokens import SMALLEST_VOCABULARY

LARGEST_RATE = 1000  # of learning or decay, that was not mistyped
ATTENTIONS = ("auto", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
PACKINGS = ("auto", "best_fit", "best_fit_split", "concatenated")


@dataclass(kw_only=True)
class LoopArguments(Arguments):
    """What pretraining and midtraining share.

    Resumable flags do not change what is trained on which data; precision, compilation and device batch size change
    the last bits, loader workers which documents meet in a row.
    """

    # Data
    packing: str = flag(
        "auto",
        "best_fit (whole documents, what is cropped is dropped), best_fit_split (nothing is dropped) or concatenated; "
        "auto: best_fit, or best_fit_split where a run would repeat documents before it has seen all of them",
        choices=PACKINGS,
    )
    num_workers: int = flag(
        0, "processes that tokenize and pack ahead, for each training process", least=0, most=256, resumable=True
    )
    # Model
    max_seq_len: int = flag(2048, "tokens a row (context length)", least=1, most=2**24)
    gradient_checkpointing: bool = flag(
        False, "recompute activations in the backward pass: less memory, slower", resumable=True
    )
    activation_memory_budget: float = flag(
        1.0,
        "compiled training keeps this share of the activations for the backward pass, and computes the cheapest of "
        "the others again: less memory for less time than gradient_checkpointing",
        above=0,
        most=1,
        resumable=True,
    )
    attn_implementation: str = flag(
        "auto",
        "kernel of the attention: auto (the fastest that is there for the card), eager, sdpa, flex_attention, "
        "flash_attention_2, flash_attention_3, or one of the Hub's, as kernels-community/flash-attn3",
        resumable=True,
    )
    # Horizon and batch
    num_iterations: int | None = flag(None, "optimizer steps", least=1)
    device_batch_size: int | None = flag(
        None,
        "rows that one process handles at a time (default: as many as fit by estimate); halved when memory runs out",
        least=1,
        resumable=True,
    )
    total_batch_size: int | None = flag(
        None, "tokens an optimizer step, all processes together (default: by rule)", least=1
    )
    # Optimization
    optimizer: str = flag("muon", "muon, adamw, or MODULE:FUNCTION, which is imported (docs/optimizers.md)")
    matrix_lr: float | None = flag(
        None, "Muon's learning rate for the matrices in the blocks (default: 0.02)", least=0, most=LARGEST_RATE
    )
    embedding_lr: float | None = flag(
        None,
        "learning rate of the embedding, at width 768 (default: 0.2, in generation 2026 0.3)",
        least=0,
        most=LARGEST_RATE,
    )
    unembedding_lr: float | None = flag(
        None,
        "learning rate of the head (and of adamw's matrices), at width 768 (default: 0.004, in generation 2026 0.008)",
        least=0,
        most=LARGEST_RATE,
    )
    learning_rate: float | None = flag(
        None,
        "one learning rate for all weights in place of the three above, exactly as given, as AdamW's recipes have it; "
        "muon's matrices take it too, and what suits AdamW hardly moves them",
        least=0,
        most=LARGEST_RATE,
    )
    weight_decay: float | None = flag(
        None,
        "decoupled weight decay of the matrices (default: 0, in generation 2026 by rule)",
        least=0,
        most=LARGEST_RATE,
    )
    grad_clip: float | None = flag(
        None, "largest norm of the gradient; 0 for no limit (default: 1, in generation 2026 no limit)", least=0
    )
    warmup_ratio: float | None = flag(
        None, "share of the steps with rising learning rate (default: by rule)", least=0, most=1
    )
    warmdown_ratio: float | None = flag(
        None, "share of the steps with falling learning rate (default: by rule)", least=0, most=1
    )
    final_lr_frac: float | None = flag(
        None,
        "learning rate at the end, as a share of the full one (default: 0, in generation 2026 0.05)",
        least=0,
        most=1,
    )
    # Evaluation, saving, resuming
    eval_every: int = flag(
        250, "steps between evaluations of bits per byte; 0: only at the end, -1: never", least=-1, resumable=True
    )
    eval_tokens: int = flag(10_485_760, "tokens of the validation split an evaluation reads", least=1, resumable=True)
    core_metric_every: int = flag(
        -1, "steps between measurements of CORE; 0: only at the end, -1: never", least=-1, resumable=True
    )
    core_bundle: str | None = flag(
        None, "directory of CORE's tasks; python -m evals.core.fetch gets one", path=True, resumable=True
    )
    core_metric_max_per_task: int = flag(
        500, "examples of each task that CORE is measured on", least=1, resumable=True
    )
    sample_every: int = flag(2000, "steps between samples; 0: only at the end, -1: never", least=-1, resumable=True)
    save_every: int = flag(1000, "steps between checkpoints; 0: only at the end", least=0, resumable=True)
    keep_checkpoints: int = flag(2, "newest checkpoints kept; 0 keeps all", least=0, resumable=True)
    keep_best: bool = flag(
        False, "also keep the checkpoint with the lowest val/bpb (checkpoints/best.json names it)", resumable=True
    )
    resume: str = flag(
        "auto",
        "auto: from the newest checkpoint in output_dir; none: from scratch; or a checkpoint's path",
        path=True,
        resumable=True,
    )
    log_every: int = flag(1, "steps between logs", least=1, resumable=True)
    # Machine
    output_dir: str = flag(
        "runs/base/base", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    seed: int = flag(0, "seed of all that is random", least=0, below=2**32)
    mixed_precision: str = flag(
        "auto",
        "auto: bf16 where the hardware has it, else fp16 on GPUs; or bf16, fp8, fp16, no",
        choices=("auto", "bf16", "fp8", "fp16", "no"),
        resumable=True,
    )
    fp8_from_depth: int = flag(
        24, "refuse fp8 for models with fewer layers, which it slows down", least=1, resumable=True
    )
    compile: str = flag(
        "auto",
        "torch.compile: auto (when the run is long enough to repay it), true, false",
        choices=("auto", "true", "false"),
        resumable=True,
    )
    log_with: str | None = flag(
        None, "trackers beside metrics.jsonl, comma-separated: trackio, wandb, tensorboard", resumable=True
    )
    run: str | None = flag(None, "name of the run in the trackers (default: from output_dir)", resumable=True)
    push_to_hub: bool = flag(False, "publish the finished model on the Hub, as recipes.publish does", resumable=True)
    hub_model_id: str | None = flag(None, "where to: user/name", resumable=True)
    hub_private_repo: bool = flag(False, "create a repository that only you can see", resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.warmup_ratio or 0) + (self.warmdown_ratio or 0) > 1:
            both = f"warmup_ratio {self.warmup_ratio:g} and warmdown_ratio {self.warmdown_ratio:g}"
            raise InputError(f"{both} make more than all steps.")
        if self.keep_best and self.eval_every < 0:
            raise InputError("keep_best needs evaluations: set eval_every, best to the same number as save_every.")
        if self.attn_implementation not in ATTENTIONS and "/" not in self.attn_implementation:
            raise InputError(
                f"attn_implementation: unknown kernel {self.attn_implementation!r}; "
                f"{suggest(self.attn_implementation, ATTENTIONS)}"
            )
        for name in THREE_RATES if self.learning_rate is not None else ():
            if getattr(self, name) not in (None, *(rules.flags()[name] for rules in RULES.values())):
                raise InputError(f"give learning_rate, which is for all weights, or {name}, not both.")
        if self.core_metric_every >= 0 and self.core_bundle is None:
            raise InputError(
                "core_metric_every needs core_bundle: get one by python -m evals.core.fetch --bundle DIR."
            )


@dataclass(kw_only=True)
class PretrainArguments(LoopArguments):
    """Arguments of recipes/pretrain.py.

    The horizon is the first of num_iterations, target_flops and target_param_data_ratio that is set.
    """

    # Data
    dataset: str = flag(
        "primer",
        "primer, a local file, directory or glob, a Hub dataset id, or what recipes.data.prepare made of one",
        path=True,
    )
    text_column: str | None = flag(None, "column that holds the text (default: text)")
    document_separator: str = flag(
        "auto",
        "where documents of .txt files end: whole (nowhere; the last tenth of a single file is held out), lines, "
        "blank_lines; auto: at blank lines, 2,000 characters or more apart",
        choices=DOCUMENT_SEPARATORS,
    )
    skip_damaged: bool = flag(
        False, "skip damaged files and rows with a counted warning instead of stopping", resumable=True
    )
    skip_tokens: int | None = flag(
        None, "of a prepared corpus: skip this many tokens, and begin at the next document", least=1
    )
    continue_from: str | None = flag(
        None,
        "of a prepared corpus: begin with the documents that the run in this directory has not read",
        path=True,
    )
    # Model
    tokenizer: str | None = flag(
        None, "directory or Hub id of the tokenizer (default: that of model_name_or_path)", path=True
    )
    depth: int = flag(
        20,
        "the dial: number of layers; width, heads, batch, horizon and learning rates follow",
        least=1,
        most=1000,
    )
    generation: int | None = flag(
        None,
        "nanochat's model and rules of 2025, or of 2026: value embeddings, residual scalars, windows, smear, backout, "
        "its Muon (default: 2025)",
        choices=tuple(RULES),
    )
    window_pattern: str | None = flag(
        None,
        "attention of the layers, repeated over them: S for the quarter of the context before a token, L for all of "
        "it; the last layer is always L (default: L, in generation 2026 SSSL)",
    )
    model_config: str | None = flag(
        None, "train another architecture from scratch: a transformers config.json", path=True
    )
    model_name_or_path: str | None = flag(None, "train an existing causal LM onward", path=True)
    freeze: str | None = flag(None, "regular expression: parameters with such names stay as they are, untrained")
    # LoRA, by TRL's names and defaults, as in SFT
    use_peft: bool = flag(
        False, "train LoRA adapters in place of the weights of model_name_or_path; merged at the end"
    )
    lora_r: int = flag(16, "rank of the adapters", least=1)
    lora_alpha: int = flag(32, "adapters count lora_alpha / lora_r times", least=1)
    lora_dropout: float = flag(0.05, "dropout in front of the adapters", least=0, below=1)
    lora_target_modules: list[str] | None = flag(
        None, "names of the layers that get adapters, such as c_attn (default: all linear ones but the head)"
    )
    # Horizon
    target_flops: float | None = flag(None, "train until this many floating-point operations", above=0)
    target_param_data_ratio: float | None = flag(
        None,
        "tokens for each parameter: of all of them in generation 2025 (default: 20, as Chinchilla), of the blocks' "
        "matrices and the head in 2026 (default: 12, compute-optimal; 8 was enough for a d24 to pass GPT-2)",
        above=0,
    )
    # Plan only
    dry_run: bool = flag(False, "print the plan and stop; needs no data and no weights", resumable=True)
    vocab_size: int | None = flag(
        None,
        "vocabulary size of a dry run without a tokenizer (default: 65,536; 32,768 for generation 2026)",
        least=SMALLEST_VOCABULARY,
        most=2**24,
        resumable=True,
    )
    gpus: int = flag(8, "GPUs to plan for (dry run)", least=1, resumable=True)
    gpu_name: str = flag("H100", "GPU to plan for, or cpu for this machine (dry run)", resumable=True)
    price_per_gpu_hour: float | None = flag(None, "dollars a GPU hour to plan with (dry run)", least=0, resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_config and self.model_name_or_path:
            raise InputError("give model_config or model_name_or_path, not both.")
        self._check_model_of_the_dial()
        if self.skip_tokens is not None and self.continue_from is not None:
            raise InputError("give skip_tokens or continue_from, not both: each says where to begin.")
        if self.use_peft and not self.model_name_or_path:
            raise InputError("use_peft adapts a trained model: name one by --model_name_or_path.")
        if self.use_peft and self.freeze:
            raise InputError("use_peft trains adapters alone: leave out freeze.")
        for name in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
            if not self.use_peft and getattr(self, name) != getattr(PretrainArguments, name):
                raise InputError(f"{name} has no effect without --use_peft.")

    def _check_model_of_the_dial(self) -> None:
        """Raise `InputError` if what shapes our model is given for another one, or is misspelt."""
        source = self.model_config or self.model_name_or_path
        for name in OF_THE_DIAL:
            if source and getattr(self, name) is not None:
                raise InputError(
                    f"{name} belongs to the model that depth makes, and {source} is one already: leave it out"
                    f"{' (after a preset that sets it: --generation none)' if name == 'generation' else ''}."
                )
        if self.window_pattern is not None:
            self.window_pattern = self.window_pattern.upper()
            if set(self.window_pattern) - set("SL"):
                raise InputError(
                    f"window_pattern {self.window_pattern!r} must be made of the letters S (short) and L (long), "
                    "such as SSSL."
                )


@dataclass(kw_only=True)
class MidtrainArguments(LoopArguments):
    """Arguments of recipes/midtrain.py. Unset ones default to those of the run that trained the source."""

    INHERITED_FROM_SOURCE = (  # unless set
        "max_seq_len", "total_batch_size", "optimizer", "matrix_lr", "embedding_lr", "unembedding_lr", "learning_rate",
        "weight_decay",
        "grad_clip", "warmup_ratio", "warmdown_ratio", "final_lr_frac",
    )  # fmt: skip

    source: str = flag(REQUIRED, "the base model: directory of a finished run, or Hub id", path=True)
    conversations: str = flag(
        REQUIRED, "what to train on: a mixture's .yaml, a .jsonl, or the name of a source", path=True
    )
    packing: str = flag(
        "auto", "as in pretraining; auto: best_fit, for the end of a conversation says little alone", choices=PACKINGS
    )
    num_workers: int = flag(
        0,
        "processes that render and tokenize the conversations before training",
        least=0,
        most=256,
        resumable=True,
    )
    max_seq_len: int | None = flag(None, "tokens a row (default: the source's)", least=1, most=2**24)
    num_iterations: int | None = flag(None, "optimizer steps (default: one pass over the conversations)", least=1)
    total_batch_size: int | None = flag(
        None, "tokens an optimizer step, all processes (default: the source's)", least=1
    )
    init_lr_frac: float = flag(
        1.0,
        "learning rates to start with, as a share of the full ones of the source's run",
        above=0,
        most=LARGEST_RATE,
    )
    optimizer: str | None = flag(None, "muon, adamw, or MODULE:FUNCTION (default: the source's)")
    matrix_lr: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=LARGEST_RATE)
    embedding_lr: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=LARGEST_RATE)
    unembedding_lr: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=LARGEST_RATE)
    learning_rate: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=LARGEST_RATE)
    weight_decay: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=LARGEST_RATE)
    grad_clip: float | None = flag(None, "as in pretraining (default: the source's)", least=0)
    warmup_ratio: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=1)
    warmdown_ratio: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=1)
    final_lr_frac: float | None = flag(None, "as in pretraining (default: the source's)", least=0, most=1)
    output_dir: str = flag(
        "runs/base/mid", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
