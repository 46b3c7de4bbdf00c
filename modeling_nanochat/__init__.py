"""The model alone: all that `from_pretrained` needs, copied into every checkpoint.

Importing this package makes transformers' Auto classes know NanochatGPT. The model's file is imported when one of its
classes is first used: it takes seconds, because transformers' base class loads torch's compiler.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_nanochat import NanochatGPTConfig

MODEL_CLASSES = {
    AutoModel: "NanochatGPTModel",
    AutoModelForCausalLM: "NanochatGPTForCausalLM",
    AutoModelForSequenceClassification: "NanochatGPTForSequenceClassification",
    AutoModelForTokenClassification: "NanochatGPTForTokenClassification",
    AutoModelForQuestionAnswering: "NanochatGPTForQuestionAnswering",
}

__all__ = [
    "NanochatGPTConfig",
    "NanochatGPTForCausalLM",
    "NanochatGPTForQuestionAnswering",
    "NanochatGPTForSequenceClassification",
    "NanochatGPTForTokenClassification",
    "NanochatGPTModel",
]


class LazyModelClass:
    """Stands for a model class in an Auto class, and passes on to it whatever is asked of it."""

    config_class = NanochatGPTConfig  # compared by `register`

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str):
        return getattr(__getattr__(self.__name__), attribute)


def __getattr__(name: str) -> type:
    """`modeling_nanochat.NanochatGPTModel` and the others (PEP 562)."""
    if name not in MODEL_CLASSES.values():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import modeling_nanochat as module

    for auto_class, class_name in MODEL_CLASSES.items():
        globals()[class_name] = model_class = getattr(module, class_name)
        auto_class.register(NanochatGPTConfig, model_class, exist_ok=True)
    return globals()[name]


AutoConfig.register(NanochatGPTConfig.model_type, NanochatGPTConfig)
NanochatGPTConfig.register_for_auto_class()
for auto_class, class_name in MODEL_CLASSES.items():
    auto_class.register(NanochatGPTConfig, LazyModelClass(class_name))
