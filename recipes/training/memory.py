"""An estimate of the memory that training needs, and the device batch that fits into a GPU by it.

What torch's own tools say of the same step, `python -m benchmarks.memory` prints beside it. After a change to what the
model computes in which precision, run that, and mend `KEPT` and the lines that explain it.
"""

from recipes.utils.model_facts import ModelFacts

LARGEST_DEVICE_BATCH = 64  # rows: beyond it, speed no longer grows
CPU_DEVICE_BATCH = 32
USABLE = 0.95  # share of a device's memory, by the estimate; the rest is left to kernels and fragmentation

# What a block keeps for the backward pass, bytes a token and unit of width.
# Compiled, all in bf16 (training/precision.py): two residual streams (4) and their norms (4); queries and keys after
# rotation (4), and normalized, with values and the mix of values (8); fc1's output and its squared ReLU (16).
# Not compiled, under autocast: both streams and the rotated queries and keys in fp32 (16); a bf16 copy of its input
# for each of four products (8); queries, keys, values and their mix (8); of the ReLU its output (8), the fp32 copy
# that autocast squares (16), and fc2's input (8).
KEPT = {"compiled": 36.0, "not compiled": 64.0}
# In 2026 also the residual stream before it is scaled (2), and in every other block the rows of its value embedding
# (2 / 2).
KEPT_OF_2026 = 3.0
# Of another architecture, compiled under autocast: streams, rotated queries and keys are in fp32. Not measured.
KEPT_BY_OTHERS = 44.0
# With adapters, whose inputs are kept in fp32 before and after dropout, with its mask, and in bf16 (11 x 7); the
# products of frozen weights need not keep theirs. Not measured.
KEPT_WITH_ADAPTERS = 103.0
# Of blocks that are computed again: the stream that they start from, in fp32 (4); in 2026 also the fp32 rows of the
# value embedding in every other block (4 / 2). Measured of a step that is not compiled; a compiled one keeps less.
KEPT_TO_RECOMPUTE, KEPT_TO_RECOMPUTE_OF_2026 = 4.0, 2.0
# Around the blocks, once: the last stream and its gradient (4); in 2026 the embedding, too (2).
KEPT_AROUND, KEPT_AROUND_OF_2026 = 4.0, 2.0

# Of modeling_nanochat/loss_nanochat.py: bytes of a chunk of fp32 logits, compiled and not, and the most compiled ones.
LOSS_CHUNK, LOSS_CHUNK_NOT_COMPILED, MOST_COMPILED_CHUNKS = 2**30, 2**28, 8


def estimate_memory(
    facts: ModelFacts,
    rows: int,
    max_seq_len: int,
    gradient_checkpointing: bool,
    optimizer: str = "muon",
    ranks: int = 1,
    trainer: bool = False,
    sharded: bool = False,
) -> dict[str, float]:
    """Bytes a GPU needs, by purpose, to compute in bf16 with replicated fp32 weights (DDP) and `rows` at a time.

    It is the larger of two peaks: of the forward and backward pass, with the gradients of micro-batches before, or of
    the optimizer's update ("update"), when activations and bf16 weights are gone.

    Muon's state is divided among `ranks`: matrices always, the rest if they are a power of two, by which the sizes of
    our models can be divided. Other optimizers are taken to keep two moments of every weight, as AdamW does. With
    `trainer` the step is that of TRL's trainers: not compiled, the state undivided, and with several ranks DDP's
    buckets beside the gradients. Of `sharded` weights (FSDP) all that is kept is divided; embedding, head and two
    blocks at a time are whole.
    """
    in_blocks = sum(
        facts.parameter_counts.get(name, 0)
        for name in ("attention", "mlp", "gates", "matrices", "transposed matrices")
    )
    tables = facts.parameter_counts.get("value_embeddings", 0)  # which are looked up, and need no bf16 copy
    if "head" in facts.parameter_counts:  # else the embedding is the head as well
        tables += facts.parameter_counts.get("embedding", 0)
    trained, all_weights = facts.num_parameters, facts.num_parameters
    if facts.adapters:
        trained = in_blocks = facts.adapters.num_parameters
        all_weights += trained
    sharers = 1 if trainer else ranks
    rest, pieces = trained - in_blocks, sharers if sharers.bit_count() == 1 else 1
    lasting = {
        "weights": 4.0 * all_weights,
        "gradients": (8.0 if trainer and ranks > 1 else 4.0) * trained,
        # Muon keeps one momentum, AdamW two moments.
        "optimizer": 4.0 * in_blocks / sharers + 8.0 * rest / pieces if optimizer == "muon" else 8.0 * trained,
    }
    copies = 2.0 * (all_weights - tables)  # in bf16
    whole_gradients = 0.0
    if sharded:
        by_block = in_blocks + facts.parameter_counts.get("value_embeddings", 0)
        copies = whole_gradients = 2.0 * (all_weights - by_block + 2 * by_block / facts.num_layers)  # in bf16
        lasting = {"weights": 4.0 * all_weights, "gradients": 4.0 * trained, "optimizer": 4.0 * in_blocks + 8.0 * rest}
        lasting = {name: size / ranks for name, size in lasting.items()}
    passes = lasting | {
        "weights": lasting["weights"] + copies,
        "gradients": lasting["gradients"] + whole_gradients,
        "activations": _activations(facts, rows, max_seq_len, gradient_checkpointing, trainer),
        "loss": _loss(facts, rows * max_seq_len, trainer),
    }
    # Muon updates the matrices of one shape at a time, a third of them. For each of its own: the step of the momentum
    # in fp32 (4), and while that is orthogonalized four bf16 copies (8) and its square (2). Updates of all ranks
    # arrive in bf16 (2), and are made fp32 a third at a time (4 / 3).
    update = 14.0 * in_blocks / 3 / sharers + (0 if sharers == 1 else (2 + 4 / 3) * in_blocks)
    if sharded:  # rows of gradients are sent, arrive, and are put together in fp32 (12); so are updates, in bf16 (4)
        update = (14.0 / 3 + 16) * in_blocks / ranks
    updating = lasting | {"update": update if optimizer == "muon" else 0.0}
    return max(passes, updating, key=lambda parts: sum(parts.values()))


def _activations(facts: ModelFacts, rows: int, max_seq_len: int, gradient_checkpointing: bool, trainer: bool) -> float:
    """Bytes that the forward pass keeps for the backward pass."""
    is_2026, tokens, width = facts.generation == 2026, rows * max_seq_len, facts.hidden_size
    in_full = KEPT["not compiled" if trainer else "compiled"] + is_2026 * KEPT_OF_2026
    if facts.adapters:
        in_full = KEPT_WITH_ADAPTERS
    elif facts.logits_at_once and not trainer:
        in_full = KEPT_BY_OTHERS
    # Padded rows have a mask, which SDPA makes in bf16 (B, 1, T, T) in every layer.
    mask = 2.0 * rows * max_seq_len**2 if trainer else 0.0
    around = (KEPT_AROUND + is_2026 * KEPT_AROUND_OF_2026) * tokens * width
    if not gradient_checkpointing:
        return (in_full * tokens * width + mask) * facts.num_layers + around
    # All blocks keep their inputs, and the one whose turn it is everything.
    starts = (KEPT_TO_RECOMPUTE + is_2026 * KEPT_TO_RECOMPUTE_OF_2026) * tokens * width * facts.num_layers
    return starts + in_full * tokens * width + mask + around


def _loss(facts: ModelFacts, tokens: int, trainer: bool) -> float:
    """Bytes for logits and the gradients that the loss computes in the forward pass."""
    logits = 4.0 * tokens * facts.vocab_size
    head = facts.vocab_size * facts.hidden_size
    if facts.logits_at_once:
        # In fp32 themselves, their softmax and its gradient, and two in bf16; the head's gradient before it is added.
        return 4 * logits + (0 if facts.adapters else 8.0 * head)
    if trainer:
        # Nine steps of the softmax and its gradient, written out in fp32; the head's gradient in fp32, and of a chunk
        # in bf16.
        return 9 * min(LOSS_CHUNK_NOT_COMPILED, logits) + (0.0 if facts.adapters else 6.0 * head)
    # The logits of a chunk and their gradient, in bf16. The head's gradient: of each chunk in bf16, and their sum in
    # fp32.
    chunk = min(max(LOSS_CHUNK, logits / MOST_COMPILED_CHUNKS), logits)
    return chunk + (0.0 if facts.adapters else max(4.0, 2.0 * -(-logits // chunk)) * head)


def fits(
    facts: ModelFacts,
    rows: int,
    max_seq_len: int,
    gradient_checkpointing: bool,
    capacity: float,
    optimizer: str = "muon",
    ranks: int = 1,
    trainer: bool = False,
    sharded: bool = False,
) -> bool:
    """Whether the estimate is within a device of `capacity` bytes."""
    parts = estimate_memory(facts, rows, max_seq_len, gradient_checkpointing, optimizer, ranks, trainer, sharded)
    return sum(parts.values()) < USABLE * capacity


def choose_device_batch(
    facts: ModelFacts,
    max_seq_len: int,
    gradient_checkpointing: bool,
    capacity: float | None,
    optimizer: str = "muon",
    ranks: int = 1,
    sharded: bool = False,
) -> int:
    """The largest power of two of rows whose estimate fits into `capacity` bytes; on a CPU (None) 32."""
    if capacity is None:
        return CPU_DEVICE_BATCH
    shared = gradient_checkpointing, capacity, optimizer, ranks
    rows = LARGEST_DEVICE_BATCH
    while rows > 1 and not fits(facts, rows, max_seq_len, *shared, sharded=sharded):
        rows //= 2
    return rows
