"""The chat page: model, conversation, event handlers, limits, layout and style."""
