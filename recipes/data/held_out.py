"""Validation rows, read once and equal for every packing, batch size and number of processes."""

import datasets
import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from recipes.data.packing import READ_DOCUMENTS, token_ids
from recipes.utils.errors import InputError
from tokenizer.encode import document_start_id


def read_validation_rows(
    documents: datasets.IterableDataset, tokenizer: PreTrainedTokenizerFast, max_seq_len: int, max_tokens: int
) -> torch.Tensor:
    """Rows (N, max_seq_len + 1) int32 of documents in order, concatenated, up to `max_tokens` predicted tokens.

    A row begins with the last token of the row before, so every token but the first is predicted exactly once. The
    last row is padded with the token that starts a document: it has no bytes, so bits per byte do not count it.
    Raises `InputError` if there are no documents.
    """
    pieces, count = [], 0
    for batch in documents.iter(batch_size=READ_DOCUMENTS):
        for ids in token_ids(batch, tokenizer):
            pieces.append(np.array(ids, dtype=np.int32))
            count += len(ids)
        if count > max_tokens:
            break
    if count < 2:
        raise InputError("there are no documents.")
    tokens = torch.from_numpy(np.concatenate(pieces))[: max_tokens + 1]
    num_rows = -(-(len(tokens) - 1) // max_seq_len)
    missing = num_rows * max_seq_len + 1 - len(tokens)
    padded = F.pad(tokens, (0, missing), value=document_start_id(tokenizer))
    return padded.unfold(0, max_seq_len + 1, max_seq_len)  # windows that overlap by one token
