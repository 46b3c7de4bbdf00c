"""Convert a checkpoint: `python -m recipes.convert --source DIR --output_dir DIR --to nanochat`.

`--to nanochat` writes transformers' own NanoChat, which loads without trust_remote_code and which vLLM and SGLang
support; `--to ours` writes NanochatGPT; `--to karpathy` writes the files that karpathy/nanochat of July 2026 loads.
The source is any of the three, and recognized: karpathy's, of 2025 or 2026, are model_NNNNNN.pt and meta_NNNNNN.json,
with tokenizer.pkl beside them or given by `--tokenizer`. No code in a source is run. The values of the weights and the
tokens of the vocabulary stay the same. Models of 2025 convert to the first two, models of 2026 to the last two.
"""

from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, writing


@dataclass
class ConvertArguments(Arguments):
    """Flags of `python -m recipes.convert`."""

    source: str = flag(REQUIRED, "directory or Hub id of a checkpoint, or directory of original files", path=True)
    output_dir: str = flag(REQUIRED, "directory of the converted checkpoint, which must not hold anything", path=True)
    to: str = flag(
        REQUIRED,
        "nanochat: transformers' own NanoChat, for models of 2025; ours: NanochatGPT; karpathy: the files of "
        "karpathy/nanochat, for models of 2026",
        choices=("nanochat", "ours", "karpathy"),
    )
    tokenizer: str | None = flag(
        None, "tokenizer.pkl of original weights, or its directory (default: the source)", path=True
    )
    step: int | None = flag(None, "which of several original checkpoints (default: the last)", least=0)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("convert", ConvertArguments)

from transformers import NanoChatForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.convert.native import OURS, load_checkpoint, to_nanochat, to_ours
from recipes.convert.original import has_original_weights, load_original
from recipes.convert.to_original import save_original
from recipes.utils import atomic
from recipes.utils.outputs import hold

# Where nanochat's code looks for them, in $NANOCHAT_BASE_DIR.
PLACES = (
    "put model_* and meta_* into ~/.cache/nanochat/chatsft_checkpoints/d{}, token* into ~/.cache/nanochat/tokenizer"
)


def main(args: ConvertArguments) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    output_dir = Path(args.output_dir)
    with hold(output_dir, replaced=True):
        check_empty(output_dir)
        model, tokenizer = convert(args)
        save(model, tokenizer, output_dir, args.to)
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{type(model).__name__}, {parameters:,} parameters, {model.dtype}, {len(tokenizer):,} tokens")
    if args.to == "karpathy":
        print(f"saved to {output_dir}: {PLACES.format(model.config.num_hidden_layers)}")
    else:
        print(f"saved to {output_dir}: AutoModelForCausalLM.from_pretrained({str(output_dir)!r}{trust(model)})")


def convert(args: ConvertArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Convert a model, and return it with its tokenizer."""
    source, model, tokenizer = load(args)
    if source == args.to:
        raise InputError(f"{args.source} has that format already: there is nothing to convert.")
    if args.to == "nanochat":
        return as_nanochat(model), tokenizer
    return (to_ours(model) if source == "nanochat" else model), tokenizer


def load(args: ConvertArguments) -> tuple[str, PreTrainedModel, PreTrainedTokenizerFast]:
    """The format of the source, by the name it has as `--to`, and its model and tokenizer; karpathy's as ours."""
    if has_original_weights(Path(args.source)):
        return "karpathy", *load_original(Path(args.source), args.tokenizer, args.step)
    if args.tokenizer is not None or args.step is not None:
        raise InputError(
            f"--tokenizer and --step are for original files (model_NNNNNN.pt), and {args.source} has none."
        )
    model, tokenizer = load_checkpoint(args.source)
    return ("ours" if model.config.model_type == OURS else "nanochat"), model, tokenizer


def as_nanochat(model: NanochatGPTForCausalLM) -> NanoChatForCausalLM:
    """`to_nanochat`, with a note about what it cannot keep."""
    if model.config.rotary_dtype is not None:
        print(f"note: NanoChat does not round rotary angles to {model.config.rotary_dtype}: fp32 logits differ")
    return to_nanochat(model)


def check_empty(output_dir: Path) -> None:
    """Raise `InputError` unless `output_dir` is missing or an empty directory."""
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise InputError(f"output_dir {output_dir} exists and is not empty: choose another.")


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output_dir: Path, to: str) -> None:
    """Write `output_dir` atomically, in the format `to`. Raises `InputError` if the disk is full or fails."""
    with writing(output_dir), atomic.new_directory(output_dir) as directory:
        if to == "karpathy":
            save_original(model, tokenizer, directory)
        else:
            model.save_pretrained(directory)
            tokenizer.save_pretrained(directory)


def trust(model: PreTrainedModel) -> str:
    """The arguments that from_pretrained needs besides the directory."""
    return ", trust_remote_code=True" if model.config.model_type == OURS else ""


if __name__ == "__main__":
    exit_on_input_error("convert", lambda: main(ARGS))
