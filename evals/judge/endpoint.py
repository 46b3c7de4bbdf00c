"""A judge behind an OpenAI-compatible endpoint: vLLM, `transformers serve`, llama.cpp, the Hub's providers, OpenAI."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from urllib.parse import parse_qsl, urlsplit

from evals.judge.verdict import NOT_ASKED, Reader, Verdict, attempts, read_verdict
from recipes.data.messages import user
from recipes.inference.generate import Sampling
from recipes.inference.openai_client import EndpointError, NoConnection, OpenAIClient, Refused, TooSlow
from recipes.utils.errors import InputError

PROBE_SECONDS = 10
WAITS = (0.5, 2.0, 8.0)  # seconds before each retry of a temporary failure
LONGEST_WAIT = 60.0  # seconds, even if the endpoint asks for more
FAILURES_IN_A_ROW = 3  # after which nothing more is asked
SHORTEST_KEY = 8  # characters


class EndpointJudge:
    """Asks an endpoint, with up to `concurrency` requests in flight.

    `model` is the name to ask for, `None` for the only one that is served; `timeout` is in seconds without a byte
    from the endpoint. `url` as an attribute is without its query, which may hold a key.
    Raises `InputError` if `url` is not a URL, if nobody answers there, if the key is refused, and if several models
    are served and none is named.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 120.0,
        concurrency: int = 4,
        max_new_tokens: int = 1024,
    ) -> None:
        self.client = OpenAIClient(url, "judge", key, timeout)
        self.url, self.timeout, self.concurrency = self.client.url, timeout, concurrency
        self.attempts = attempts(max_new_tokens)
        self.secrets = _secrets(self.client.chat_url, key)
        self.model = self._connect(model, key)
        self.name = self.model or self.url
        self._plain = False  # whether the model refuses options, as OpenAI's reasoning models refuse temperature
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._stopped = threading.Event()

    def score(self, prompts: Sequence[str], take: Callable[[int, Verdict], None], read: Reader = read_verdict) -> None:
        """Call `take` with each prompt's index and verdict as they arrive, in the caller's thread.

        After `FAILURES_IN_A_ROW` the remaining prompts fail unasked, so that a dead endpoint does not take hours.
        Ctrl-C does not wait for requests in flight.
        """
        self._stopped.clear()
        self._failed_in_a_row = 0
        pool = ThreadPoolExecutor(self.concurrency)
        places = {pool.submit(self._judge, place, prompt, read): place for place, prompt in enumerate(prompts)}
        try:
            for future in as_completed(places):
                take(places.pop(future), future.result())
        except KeyboardInterrupt:
            for future, place in places.items():
                if future.done():
                    take(place, future.result())
            raise
        finally:
            self._stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _connect(self, model: str | None, key: str | None) -> str | None:
        """One quick try, before any slow work. Returns the model to ask for, if it is known."""
        try:
            served = self.client.list_models(PROBE_SECONDS)
        except Refused as error:
            raise InputError(
                f"judge {self.url} refuses {'the key' if key else 'to answer without a key'} "
                f"(HTTP {error.status}): --api_key_env names the environment variable that holds one."
            ) from None
        except NoConnection as error:
            reason = self._public(str(error))
            raise InputError(f"judge {self.url} does not answer ({reason}): start its server, then rerun.") from None
        if model is None and served is not None and len(served) > 1:
            some = ", ".join(served[:10]) + (", ..." if len(served) > 10 else "")
            raise InputError(f"judge {self.url} serves several models: choose one by --judge_model: {some}.")
        return model or next(iter(served or []), None)

    def _judge(self, place: int, prompt: str, read: Reader) -> Verdict:
        """The verdict on one prompt, or its failure."""
        if self._stopped.is_set():
            return Verdict(error=NOT_ASKED)
        try:
            for sampling in self.attempts:
                verdict = read(place, self._without_secrets(self._ask(prompt, sampling)))
                if verdict.error is None:
                    break
        except EndpointError as error:
            # A request may be refused for itself, as one that is too long: others may be answered.
            only_this = isinstance(error, Refused) and error.status in (400, 413, 422)
            self._count_failure(fatal=not only_this)
            return Verdict(error=self._public(self._reason(error)))
        self._count_failure(fatal=False)
        return verdict

    def _count_failure(self, fatal: bool) -> None:
        with self._lock:
            self._failed_in_a_row = self._failed_in_a_row + 1 if fatal else 0
            if self._failed_in_a_row >= FAILURES_IN_A_ROW:
                self._stopped.set()

    def _ask(self, prompt: str, sampling: Sampling) -> str:
        """What the judge writes; temporary failures are retried."""
        for wait in WAITS:
            try:
                return self._request(prompt, sampling)
            except EndpointError as error:
                refused = isinstance(error, Refused)
                if refused and error.status not in (408, 409, 429) and error.status < 500:
                    raise
                named = error.retry_after if refused else None
                self._stopped.wait(wait if named is None else min(named, LONGEST_WAIT))
                if self._stopped.is_set():
                    raise
        return self._request(prompt, sampling)

    def _request(self, prompt: str, sampling: Sampling) -> str:
        """One request, repeated without options where the server refuses them. Raises `EndpointError`."""
        options = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "seed": sampling.seed}
        options = {} if self._plain else options
        try:
            return self.client.complete([user(prompt)], {"model": self.model} | options)
        except Refused as error:
            if error.status not in (400, 422) or not any(name in error.reason for name in options):
                raise
        self._plain = True
        return self._request(prompt, sampling)

    def _reason(self, error: EndpointError) -> str:
        if isinstance(error, Refused):
            unnamed = self.model is None and error.status in (400, 404, 422)
            return f"HTTP {error.status}{' (asked without a --judge_model)' if unnamed else ''}: {error.reason}"
        if isinstance(error, TooSlow):
            return f"no answer for {self.timeout:g} s"
        return f"{'no connection' if isinstance(error, NoConnection) else 'no chat completion'}: {error}"

    def _without_secrets(self, text: str) -> str:
        """`text` without the key and the URL's query, which a server may echo and no file may hold."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def _public(self, text: str) -> str:
        """A server's message on one short line."""
        return " ".join(self._without_secrets(text).split())[:300]


def _secrets(url: str, key: str | None) -> list[str]:
    """The key, the URL's query, and each of its values that is long enough for a key, not a number of a verdict."""
    query = urlsplit(url).query
    values = [value for _, value in parse_qsl(query) if len(value) >= SHORTEST_KEY]
    return [secret for secret in (key, query and f"?{query}", *values) if secret]
