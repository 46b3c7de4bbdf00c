"""A local judge: any chat model that transformers loads."""

from collections.abc import Callable, Sequence

from evals.judge.verdict import Reader, Verdict, attempts, read_verdict
from recipes.data.messages import user
from recipes.inference.generate import Sampling, context_length, generate_replies, render_prompt
from recipes.inference.models import load_chat_model
from tokenizer.chat import Message


class LocalJudge:
    """Asks a chat model of a directory or a Hub id, in batches. Raises `InputError` if it cannot be loaded."""

    def __init__(self, name: str, batch_size: int, max_new_tokens: int) -> None:
        self.name = name
        self.batch_size = batch_size
        self.attempts = attempts(max_new_tokens)
        self.model, self.tokenizer = load_chat_model(name)
        self.context = context_length(self.model)

    def score(self, prompts: Sequence[str], take: Callable[[int, Verdict], None], read: Reader = read_verdict) -> None:
        """Call `take` with each prompt's index and verdict, batch by batch."""
        lengths = [len(render_prompt(self.tokenizer, [user(prompt)])) for prompt in prompts]
        fitting = [place for place, length in enumerate(lengths) if length < self.context]
        for place in set(range(len(prompts))) - set(fitting):
            length = f"{lengths[place]:,} tokens and the judge's context only {self.context:,}"
            take(place, Verdict(error=f"the judge's prompt has {length}"))
        for start in range(0, len(fitting), self.batch_size):
            self._score_batch(
                {place: prompts[place] for place in fitting[start : start + self.batch_size]}, take, read
            )

    def _score_batch(self, batch: dict[int, str], take: Callable[[int, Verdict], None], read: Reader) -> None:
        """Score one batch (index -> prompt); prompts with an unusable verdict are asked once more."""
        for sampling in self.attempts:
            texts = dict(zip(batch, self._ask(list(batch.values()), sampling), strict=True))
            verdicts = {place: read(place, text) for place, text in texts.items()}
            for place, verdict in verdicts.items():
                if verdict.error is None:
                    take(place, verdict)
            batch = {place: prompt for place, prompt in batch.items() if verdicts[place].error is not None}
            if not batch:
                return
        for place in batch:
            take(place, verdicts[place])

    def _ask(self, prompts: list[str], sampling: Sampling) -> list[str]:
        conversations = [[user(prompt)] for prompt in prompts]
        replies = generate_replies(
            self.model, self.tokenizer, conversations, sampling, tools={}, batch_size=self.batch_size
        )
        return [spoken(reply) for reply in replies]


def spoken(reply: Sequence[Message]) -> str:
    """The text of a reply, before and after its tool calls."""
    return "".join(message["content"] for message in reply if message["role"] == "assistant").strip()
