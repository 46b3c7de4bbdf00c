"""The model alone: all that `from_pretrained` needs, copied into every checkpoint."""

from transformers import AutoConfig, AutoModelForCausalLM

from .configuration_nanochat import NanochatGPTConfig
from .modeling_nanochat import NanochatGPTForCausalLM, NanochatGPTModel

AutoConfig.register(NanochatGPTConfig.model_type, NanochatGPTConfig)
AutoModelForCausalLM.register(NanochatGPTConfig, NanochatGPTForCausalLM)
# save_pretrained then writes these files beside the weights, so that trust_remote_code finds them.
NanochatGPTConfig.register_for_auto_class()
NanochatGPTForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = ["NanochatGPTConfig", "NanochatGPTForCausalLM", "NanochatGPTModel"]
