"""The primer: an embedded corpus of common knowledge, generated from small tables in a few seconds."""

from recipes.data.primer.documents import primer_documents

__all__ = ["primer_documents"]
