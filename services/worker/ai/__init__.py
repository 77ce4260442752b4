"""The AI step: what a text is about, by local libraries or by a model behind an OpenAI-compatible server."""
