"""The page's parts: the model behind it, the conversation, the continued text, what it looks like."""
