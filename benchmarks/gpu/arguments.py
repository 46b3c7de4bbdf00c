"""Flags of `python -m benchmarks.gpu`."""

from dataclasses import dataclass

from recipes.utils.arguments import Arguments, flag

# In the order in which they run: what says most comes first, for time may run short.
PARTS = ("card", "attention", "training", "fp8", "loader", "generation", "resume", "grpo", "buckets")


@dataclass
class GPUArguments(Arguments):
    """What to measure, for how long; on a CPU the defaults are a model that trains in seconds."""

    minutes: float = flag(10.0, "parts that would end later are left out", above=0)
    parts: list[str] = flag(list(PARTS), "what to measure", choices=PARTS)
    depths: list[int] | None = flag(None, "of the models (default: 12, 20 and 24; on a CPU 1)", least=1, most=1000)
    generations: list[int] = flag(
        [2026, 2025], "of the models; training by all but the first comes last", choices=(2025, 2026)
    )
    max_seq_len: int | None = flag(None, "tokens a row (default: 2048; on a CPU 64)", least=32, most=2**24)
    vocab_size: int | None = flag(
        None, "of the models (default: nanochat's of each generation; on a CPU 512)", least=300, most=2**24
    )
    rows: int | None = flag(None, "rows at a time (default: as many as fit by estimate; on a CPU 2)", least=1)
    steps: int = flag(8, "measured steps of each model", least=1)
    compile: str = flag("auto", "as of recipes/pretrain.py; auto: wherever there is a compiler, on a GPU")
    price_per_gpu_hour: float = flag(3.0, "for the projection, in dollars", least=0)
    output_dir: str = flag("runs/gpu_benchmark", "results.json, results.md and pictures", path=True)
