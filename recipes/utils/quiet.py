"""Import this before TRL: it silences library warnings that indicate no fault and that users cannot act on."""

import logging
import warnings

# bitsandbytes without a GPU: a kernel that it would prefer is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# bitsandbytes, at every 8-bit product: its inputs are cast.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
# transformers: a flag was renamed, but is still accepted.
warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated", category=FutureWarning)
# peft: it uses a name that transformers has changed, and corrects two settings by itself.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False but the target module is `Conv1D`")
warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")

HARMLESS = {  # by logger of transformers: the beginning of a message
    # New embeddings for the chat format's special tokens, which other models lack.
    "transformers.modeling_utils": "The new embeddings will be initialized from a multivariate normal distribution",
    # Checkpoints written within the same second, which transformers then sorts by their numbers.
    "transformers.trainer_utils": "mtime may not be reliable on this filesystem",
}
for name, beginning in HARMLESS.items():
    logging.getLogger(name).addFilter(lambda record, no=beginning: not record.getMessage().startswith(no))
