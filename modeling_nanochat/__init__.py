"""NanochatGPT for transformers: these files are copied into every checkpoint for `from_pretrained` to load."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_nanochat import NanochatGPTConfig
from .modeling_nanochat import (
    NanochatGPTForCausalLM,
    NanochatGPTForQuestionAnswering,
    NanochatGPTForSequenceClassification,
    NanochatGPTForTokenClassification,
    NanochatGPTModel,
)

AutoConfig.register(NanochatGPTConfig.model_type, NanochatGPTConfig)
NanochatGPTConfig.register_for_auto_class()
for auto_class, model_class in {
    AutoModel: NanochatGPTModel,
    AutoModelForCausalLM: NanochatGPTForCausalLM,
    AutoModelForSequenceClassification: NanochatGPTForSequenceClassification,
    AutoModelForTokenClassification: NanochatGPTForTokenClassification,
    AutoModelForQuestionAnswering: NanochatGPTForQuestionAnswering,
}.items():
    auto_class.register(NanochatGPTConfig, model_class)
    # save_pretrained then writes these files beside the weights, so that trust_remote_code finds them.
    model_class.register_for_auto_class(auto_class.__name__)

__all__ = [
    "NanochatGPTConfig",
    "NanochatGPTForCausalLM",
    "NanochatGPTForQuestionAnswering",
    "NanochatGPTForSequenceClassification",
    "NanochatGPTForTokenClassification",
    "NanochatGPTModel",
]
