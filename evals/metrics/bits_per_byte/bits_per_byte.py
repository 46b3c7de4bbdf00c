"""Bits per byte as a module of `evaluate`: `evaluate.load("evals/metrics/bits_per_byte")`, no network needed."""

import datasets
import evaluate
import numpy as np

from .formula import bits_per_byte

_DESCRIPTION = """\
How many bits a language model needs for one UTF-8 byte of text. Unlike perplexity it does not depend on the
tokenizer, so models with different vocabularies can be compared. Lower is better.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: the model's loss on each token, -ln p(token | tokens before it), in nats.
    references: the number of UTF-8 bytes each token stands for; 0 for a special token, whose loss is not counted.
Returns:
    bits_per_byte: sum of nats / (ln 2 x sum of bytes).
Examples:
    >>> bits_per_byte = evaluate.load("evals/metrics/bits_per_byte")
    >>> bits_per_byte.compute(predictions=[0.6931471805599453, 1.3862943611198906, 9.0], references=[1, 2, 0])
    {'bits_per_byte': 1.0}
"""

_CITATION = """\
@article{gao2020pile,
  title={The Pile: An 800GB Dataset of Diverse Text for Language Modeling},
  author={Gao, Leo and Biderman, Stella and Black, Sid and others},
  journal={arXiv preprint arXiv:2101.00027},
  year={2020}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class BitsPerByte(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, float]:
        nats, num_bytes = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.int64)
        if (num_bytes < 0).any():
            raise ValueError(
                f"bits_per_byte: references holds {num_bytes.min()}, but no token has fewer than 0 bytes."
            )
        if num_bytes.sum() == 0:
            raise ValueError("bits_per_byte: no token stands for any byte (references are all 0): nothing to measure.")
        counted = num_bytes > 0
        return {"bits_per_byte": bits_per_byte(float(nats[counted].sum()), int(num_bytes.sum()))}
