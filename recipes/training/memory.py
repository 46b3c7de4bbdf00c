"""An estimate of the memory that training needs, and the device batch that fits into a GPU by it."""

from recipes.utils.model_facts import ModelFacts

LARGEST_DEVICE_BATCH = 64  # rows: beyond it, speed no longer grows
CPU_DEVICE_BATCH = 32
USABLE = 0.95  # share of a device's memory, by the estimate; the rest is left to kernels and fragmentation


def estimate_memory(
    facts: ModelFacts,
    rows: int,
    max_seq_len: int,
    gradient_checkpointing: bool,
    optimizer: str = "muon",
    ranks: int = 1,
    sharded: bool = False,
) -> dict[str, float]:
    """Bytes a GPU needs, by purpose, for bf16 autocast with replicated fp32 weights (DDP) and `rows` at a time.

    Muon's state is divided among `ranks`: matrices always, the rest if they are a power of two, by which the sizes of
    our models can be divided. Other optimizers are taken to keep two moments of every weight, as AdamW does.
    Of `sharded` weights (FSDP) all that is kept is divided; embedding, head and two blocks at a time are whole.
    """
    tokens = rows * max_seq_len
    in_blocks = sum(
        facts.parameter_counts.get(name, 0)
        for name in ("attention", "mlp", "gates", "matrices", "transposed matrices")
    )
    tables = facts.parameter_counts.get("value_embeddings", 0)  # which are looked up, and need no bf16 copy
    trained, all_weights = facts.num_parameters, facts.num_parameters
    if facts.adapters:
        trained = in_blocks = facts.adapters.num_parameters
        all_weights += trained
    rest, pieces = trained - in_blocks, ranks if ranks.bit_count() == 1 else 1
    # Kept for the backward pass, bytes a token and unit of width in a block: two fp32 residual streams (8), the bf16
    # inputs of the four products (2 + 2 + 2 + 8), queries, keys and values before and after rotation and norm (10),
    # fc1's output (8).
    # Adapters keep their inputs in fp32 before and after dropout, its mask, and a bf16 copy (11 x 7), and the products
    # of frozen weights need not keep theirs (14).
    kept = 8 if gradient_checkpointing else 103 if facts.adapters else 40
    # In 2026 also the residual stream before it is scaled (4), and in every other block the fp32 rows of its value
    # embedding (4 / 2).
    kept += 6 if facts.generation == 2026 else 0
    # Three copies of a chunk of logits. Of all logits four: in fp32 themselves, their softmax and its gradient, and
    # two in bf16.
    logits = 4.0 * tokens * facts.vocab_size
    logits = 4 * logits if facts.logits_at_once else 3 * min(2**30, logits)
    # The head's gradient before it is added to the others.
    head_gradient = 0.0 if facts.adapters else 8.0 * facts.vocab_size * facts.hidden_size
    parts = {
        "weights": 6.0 * all_weights - 2.0 * tables,  # fp32, and their bf16 copies
        "gradients": 4.0 * trained,
        # Muon keeps one momentum, AdamW two moments.
        "optimizer": 4.0 * in_blocks / ranks + 8.0 * rest / pieces if optimizer == "muon" else 8.0 * trained,
        "activations": float(kept) * tokens * facts.num_layers * facts.hidden_size,
        "loss": logits + head_gradient,
    }
    if sharded:
        whole = rest - tables + 2 * (in_blocks + tables) / facts.num_layers  # in bf16, and so their gradients
        parts["weights"] = 4.0 * all_weights / ranks + 2.0 * whole
        parts["gradients"] = 4.0 * trained / ranks + 2.0 * whole
        parts["optimizer"] = (4.0 * in_blocks + 8.0 * rest) / ranks
    return parts


def fits(
    facts: ModelFacts,
    rows: int,
    max_seq_len: int,
    gradient_checkpointing: bool,
    capacity: float,
    optimizer: str = "muon",
    ranks: int = 1,
    sharded: bool = False,
) -> bool:
    """Whether the estimate is within a device of `capacity` bytes."""
    parts = estimate_memory(facts, rows, max_seq_len, gradient_checkpointing, optimizer, ranks, sharded)
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
    rows = LARGEST_DEVICE_BATCH
    while rows > 1 and not fits(facts, rows, max_seq_len, gradient_checkpointing, capacity, optimizer, ranks, sharded):
        rows //= 2
    return rows
