"""Facts about a causal LM of any architecture: sizes, FLOPs, context length, and its parameters by role."""

from dataclasses import dataclass, field

from torch import nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from modeling_nanochat.configuration_nanochat import NanochatGPTConfig

ROLES = ("matrices", "transposed_matrices", "embedding", "head", "others")
FEATURES_OF_2026 = ("value_embeddings", "residual_scalars", "smear", "backout")
# Of the parameters that the features of 2026 add to a model, by a part of their name.
ROLES_OF_FEATURES = {
    "value_embeds": "value_embeddings",
    "resid_lambdas": "resid_lambdas",
    "x0_lambdas": "x0_lambdas",
    "smear_gate": "smear_and_backout",
    "smear_lambda": "smear_and_backout",
    "backout_lambda": "smear_and_backout",
}


@dataclass(frozen=True)
class Adapters:
    """LoRA adapters that are trained in place of all of a model's parameters."""

    num_parameters: int
    rank: int
    layers: tuple[str, ...]  # names of the layers that have one

    def line(self, of: int) -> str:
        """How many of a model's parameters they are, and where."""
        share = f"{self.num_parameters / of:.2%} more"
        return f"{self.num_parameters:,} ({share}): LoRA of rank {self.rank} on {', '.join(self.layers)}, nothing else"


@dataclass(frozen=True)
class ModelFacts:
    """What planning needs to know about a model of any architecture.

    Attributes:
        embedding_std: spread of a fresh embedding, of another architecture than ours. Ours starts with the one that
            learning rates were tuned for, 1 here.
        generation: whose rules train it: 2026 for nanochat's of that year, 2025 for every other model.
        windows: which layers see a window only, in words; empty if none does.
        features: in words, what a model of ours has that transformers' NanoChat lacks.
        frozen: sizes, by name, of the parameters that are not trained. The other figures include them.
    """

    name: str
    parameter_counts: dict[str, int]
    flops_per_token: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    embedding_std: float
    frozen: dict[str, int] = field(default_factory=dict)
    logits_at_once: bool = False  # whether its loss needs the logits of all tokens, and not only of some at a time
    adapters: Adapters | None = None
    generation: int = 2025
    windows: str = ""
    features: tuple[str, ...] = ()

    @property
    def num_parameters(self) -> int:
        return sum(self.parameter_counts.values())

    @property
    def matrices_and_head(self) -> int:
        """Parameters of a model of ours that scaling laws of 2026 count: of the blocks and of the head."""
        return sum(self.parameter_counts.get(name, 0) for name in ("attention", "mlp", "gates", "head"))


def describe_model(model: nn.Module, sequence_length: int) -> ModelFacts:
    """Facts about a causal LM. Reads no weights, so the model may be on the meta device."""
    config = model.config
    if isinstance(config, NanochatGPTConfig):
        return describe_config(config, sequence_length)
    roles = {role: sum(p.numel() for p in parameters) for role, parameters in split_parameters(model).items()}
    head = roles["head"] or model.get_output_embeddings().weight.numel()
    in_matmuls = roles["matrices"] + roles["transposed_matrices"] + head
    attention = 12 * config.num_hidden_layers * config.hidden_size * sequence_length
    return ModelFacts(
        name=_name(type(model).__name__, config),
        parameter_counts={role.replace("_", " "): count for role, count in roles.items() if count},
        flops_per_token=6 * in_matmuls + attention,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        embedding_std=getattr(config, "initializer_range", 0.02),
        logits_at_once=True,
    )


def describe_config(config: NanochatGPTConfig, sequence_length: int) -> ModelFacts:
    """Facts of our own model, which its configuration knows without building it."""
    return ModelFacts(
        name=_name("NanochatGPTForCausalLM", config),
        parameter_counts={name: count for name, count in config.parameter_counts().items() if name != "total"},
        flops_per_token=config.flops_per_token(sequence_length),
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        embedding_std=1.0,
        generation=generation_of(config),
        windows=_windows(config, sequence_length),
        features=_features(config),
    )


def generation_of(config: PretrainedConfig) -> int:
    """The year whose rules suit a model: 2026 if it has one of the features of nanochat's of that year.

    Windows alone do not make it one: they change what a layer sees and not how it learns.
    """
    is_ours = isinstance(config, NanochatGPTConfig)
    return 2026 if is_ours and any(getattr(config, name) for name in FEATURES_OF_2026) else 2025


def _features(config: NanochatGPTConfig) -> tuple[str, ...]:
    words = [name.replace("_", " ") for name in FEATURES_OF_2026 if getattr(config, name)]
    if count := _num_windows(config):
        tokens = min(config.sliding_window, config.max_position_embeddings)
        words.append(f"windows of {tokens:,} tokens in {count} layer{'s' if count > 1 else ''}")
    return tuple(words)


def _num_windows(config: NanochatGPTConfig) -> int:
    return sum(map(config.is_sliding, range(config.num_hidden_layers)))


def kind_and_sizes(config: PretrainedConfig) -> str:
    """What tells a model from others, in words: its generation if it is ours, else its architecture, and its sizes."""
    is_ours = isinstance(config, NanochatGPTConfig)
    kind = f"generation {generation_of(config)}" if is_ours else f"architecture {config.model_type}"
    return f"{kind} ({config.num_hidden_layers} layers, {config.hidden_size} wide, {config.vocab_size:,} tokens)"


def _windows(config: NanochatGPTConfig, sequence_length: int) -> str:
    count = _num_windows(config)
    if count == 0:
        return ""
    return f"{count} of {config.num_hidden_layers} layers see {min(config.sliding_window, sequence_length):,} tokens"


def _name(class_name: str, config: PretrainedConfig) -> str:
    return f"{class_name}, {config.num_hidden_layers} layers, {config.hidden_size} wide"


def context_length(model: nn.Module, default: int = 2**31) -> int:
    """Most tokens that prompt and reply may have together; `default` for models without a limit on positions."""
    return configured_context(model.config) or default


def configured_context(config: PretrainedConfig) -> int | None:
    """Most tokens that a model of this configuration has positions for; None if there is no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a causal LM by their paths in it, the head not among them."""
    head, kinds = model.get_output_embeddings(), (nn.Linear, Conv1D)
    return {path: each for path, each in model.named_modules() if isinstance(each, kinds) and each is not head}


def split_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of any causal LM by role: matrices, transposed_matrices, embedding, head, others.

    Matrices are the 2-D weights of linear layers inside the blocks; GPT-2's `Conv1D` stores them (inputs, outputs).
    A head tied to the embedding counts as embedding. Our models of 2026 have further roles, which are empty elsewhere:
    value_embeddings, resid_lambdas, x0_lambdas, smear_and_backout.
    """
    roles: dict[str, list[nn.Parameter]] = {role: [] for role in (*ROLES, *dict.fromkeys(ROLES_OF_FEATURES.values()))}
    head = model.get_output_embeddings()
    seen: set[nn.Parameter] = set()
    # The embedding first, since it owns a tied weight.
    for path, module in [("", model.get_input_embeddings()), *model.named_modules()]:
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            roles[_role(path, module, name, parameter, head)].append(parameter)
    return roles


def _role(path: str, module: nn.Module, name: str, parameter: nn.Parameter, head: nn.Module | None) -> str:
    for part in (*path.split("."), name):
        if part in ROLES_OF_FEATURES:
            return ROLES_OF_FEATURES[part]
    if isinstance(module, nn.Embedding):
        return "embedding"
    if module is head and name == "weight":
        return "head"
    if name == "weight" and parameter.ndim == 2 and isinstance(module, nn.Linear):
        return "matrices"
    if name == "weight" and parameter.ndim == 2 and isinstance(module, Conv1D):
        return "transposed_matrices"
    return "others"
