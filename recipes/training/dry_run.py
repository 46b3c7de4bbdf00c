"""`recipes/pretrain.py --dry_run`: a plan with the memory, hours and money it would take, without data and weights."""

from modeling_nanochat.configuration_nanochat import NanochatGPTConfig
from recipes.data.hub_shards import shards_line
from recipes.training.arguments import PretrainArguments
from recipes.training.memory import estimate_memory, fits
from recipes.training.plan import Plan, plan_training
from recipes.utils.errors import InputError
from recipes.utils.hardware import GPUS, gpu_figures, this_cpu
from recipes.utils.model_facts import ModelFacts, describe_config
from recipes.utils.processes import launched_with_fsdp

DEFAULT_VOCABULARY = {2025: 65_536, 2026: 32_768}  # nanochat's, to plan with
ASSUMED_MFU = 0.4  # of the peak, for the estimate of the hours


def dry_run(args: PretrainArguments) -> None:
    """Print what a run on `args.gpus` x `args.gpu_name` would be. Raises `InputError` for an unknown GPU."""
    figures = this_cpu() if args.gpu_name == "cpu" else gpu_figures(args.gpu_name)
    if figures is None:
        raise InputError(f"unknown gpu_name {args.gpu_name!r}: known are cpu (this machine), {', '.join(GPUS)}.")
    peak, gigabytes = figures
    memory = None if args.gpu_name == "cpu" else gigabytes * 1e9
    plan = plan_training(args, facts_of(args), args.gpus, memory)
    shards = shards_line(args.dataset, plan.num_tokens, args.packing)
    data = [f"{'data':<13}{shards}"] if shards else []
    print("\n".join([*plan.lines(), *data, *cost_lines(args, plan, peak, gigabytes)]))


def facts_of(args: PretrainArguments) -> ModelFacts:
    """Size and FLOPs of the model: by the dial from its configuration alone, any other from its shapes."""
    generation = args.generation or 2025
    vocab_size = args.vocab_size or DEFAULT_VOCABULARY[generation]
    if not (args.model_config or args.model_name_or_path or args.freeze):
        if args.tokenizer:
            from recipes.utils import loading

            loading.check_source(args.tokenizer, "tokenizer")
            vocab_size = len(loading.load_tokenizer(args.tokenizer))
        config = NanochatGPTConfig.from_depth(
            args.depth,
            vocab_size,
            generation=generation,
            window_pattern=args.window_pattern,
            max_position_embeddings=args.max_seq_len,
        )
        return describe_config(config, args.max_seq_len)
    from recipes.training import models  # imports transformers' models, which takes seconds

    if args.tokenizer or args.model_name_or_path:
        vocab_size = len(models.load_tokenizer(args.tokenizer, args.max_seq_len, of_model=args.model_name_or_path))
    config = models.build_config(
        vocab_size,
        args.max_seq_len,
        depth=args.depth,
        model_config=args.model_config,
        model_name_or_path=args.model_name_or_path,
        generation=args.generation,
        window_pattern=args.window_pattern,
    )
    source = args.model_name_or_path or args.model_config
    facts = models.model_facts(config, args.max_seq_len, source, args.freeze)
    if not args.use_peft:
        return facts
    from recipes.training.adapters import facts_with_adapters, lora_config  # imports peft, which takes seconds

    lora = lora_config(args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules)
    return facts_with_adapters(facts, config, lora)


def estimate_hours(plan: Plan, gpus: int, peak: float) -> float:
    """Hours of training on `gpus` devices of `peak` FLOP/s, as if they reached `ASSUMED_MFU` of it."""
    return plan.num_flops / (gpus * peak * ASSUMED_MFU) / 3600


def cost_lines(args: PretrainArguments, plan: Plan, peak: float, gigabytes: float) -> list[str]:
    """Memory, hours and, where a price is given, cost; `peak` in FLOP/s a device. All of them estimates."""
    rows, capacity = plan.device_batch_size, gigabytes * 1e9
    recompute, ranks = args.gradient_checkpointing, plan.world_size
    sharded = launched_with_fsdp()
    parts = estimate_memory(plan.facts, rows, plan.max_seq_len, recompute, args.optimizer, ranks, sharded=sharded)
    listed = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
    enough = fits(plan.facts, rows, plan.max_seq_len, recompute, capacity, args.optimizer, ranks, sharded=sharded)
    remedy = (
        "lower device_batch_size or use" if rows > 1 else "even for a single row: lower depth or max_seq_len, or use"
    )
    verdict = "fits" if enough else f"too much: {remedy} gradient_checkpointing"
    if not enough and ranks > 1 and not sharded:
        divided = estimate_memory(plan.facts, rows, plan.max_seq_len, recompute, args.optimizer, ranks, sharded=True)
        verdict += f", or accelerate_configs/fsdp2.yaml: about {sum(divided.values()) / 1e9:.0f} GB"
    hours = estimate_hours(plan, args.gpus, peak)
    total = sum(parts.values()) / 1e9
    lines = [
        f"{'memory':<13}about {total:.0f} GB of {gigabytes:.0f} a device ({verdict}): {listed}",
        f"{'time':<13}about {hours:.2f} h on {args.gpus} x {args.gpu_name}, assuming {ASSUMED_MFU:.0%} of its peak",
    ]
    if args.price_per_gpu_hour is not None:
        cost = hours * args.gpus * args.price_per_gpu_hour
        lines.append(f"{'cost':<13}about ${cost:,.2f} at ${args.price_per_gpu_hour:g} a GPU hour")
    return lines
