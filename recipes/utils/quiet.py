"""Import this before TRL: it silences what libraries say of no fault, and no user can act on."""

import logging
import warnings

# bitsandbytes, where it is installed and there is no GPU: one kernel that it would prefer is not on the machine.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# bitsandbytes, at every product in 8 bits: that its inputs are cast.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
# transformers, of a flag that it has renamed and still takes.
warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated", category=FutureWarning)
# peft, of a name that transformers has changed; and of what it sets right itself.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False but the target module is `Conv1D`")
warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")

NO_FAULTS = {  # of transformers, by logger: how a message begins
    # Embeddings of the chat format's special tokens, which another model lacks.
    "transformers.modeling_utils": "The new embeddings will be initialized from a multivariate normal distribution",
    # Checkpoints written within one second, which are then told apart by their numbers.
    "transformers.trainer_utils": "mtime may not be reliable on this filesystem",
}
for name, beginning in NO_FAULTS.items():
    logging.getLogger(name).addFilter(lambda record, no=beginning: not record.getMessage().startswith(no))
