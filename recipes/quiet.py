"""Import this before TRL: it silences what its optional dependencies say on every start and no user can act on."""

import logging
import warnings

# bitsandbytes, where it is installed and there is no GPU: one kernel that it would prefer is not on the machine.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# bitsandbytes, at every product in 8 bits: that its inputs are cast.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
# peft, of a name that transformers has changed.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
