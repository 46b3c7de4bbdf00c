"""A judge behind an OpenAI-compatible endpoint: vLLM, `transformers serve`, llama.cpp, the Hub's providers, OpenAI."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

from huggingface_hub import InferenceClient, close_session, get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError, InferenceTimeoutError  # HTTPError: httpx's, of any kind

from evals.judge.verdict import NOT_ASKED, Verdict, attempts, nonsense, parse_verdict
from recipes.data.messages import user
from recipes.inference.generate import Sampling
from recipes.inference.urls import api_urls, public_url
from recipes.utils.errors import InputError

PROBE_SECONDS = 10
WAITS = (0.5, 2.0, 8.0)  # seconds before each retry of a failure that may pass
LONGEST_WAIT = 60.0  # seconds, whatever the endpoint asks for
FAILURES_IN_A_ROW = 3  # after which nothing more is asked
SHORTEST_KEY = 8  # characters
NO_KEY = "none"  # huggingface_hub would send the login of its user to whichever server in place of a missing key


class EndpointError(Exception):
    """The endpoint gave no answer: why, whether that may pass, and in how many seconds if it said so."""

    def __init__(self, reason: str, may_pass: bool, retry_after: float | None = None, only_this: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.retry_after = retry_after
        self.only_this = only_this  # one request, as one that is too long: others may be answered


class EndpointJudge:
    """Asks an endpoint, several requests at once.

    `model` is the name to ask for, `None` for the only one that is served; `timeout` is in seconds without a byte
    from the endpoint. `url` as an attribute is without its query, which may hold a key.
    Raises `InputError` if `url` is none, and if nobody answers there, the key is refused or the model is not clear.
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
        self.url, self.key, self.timeout, self.concurrency = public_url(url), key, timeout, concurrency
        self.attempts = attempts(max_new_tokens)
        self.models_url, chat_url = api_urls(url, "judge")
        self.secrets = _secrets(chat_url, key)
        self.client = InferenceClient(base_url=chat_url, api_key=key or NO_KEY, timeout=timeout)
        self.model = self._connect(model)
        self.name = self.model or self.url
        self._plain = False  # whether the model takes no options, as OpenAI's that think take no temperature
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._stopped = threading.Event()

    def score(self, prompts: Sequence[str], take: Callable[[int, Verdict], None]) -> None:
        """Call `take` with each prompt's place and verdict, as they come, in the caller's thread.

        After failures in a row the rest is not asked, and failed as well: an endpoint that has died ends in seconds.
        Ctrl-C waits for no request: what is in flight is left to its thread.
        """
        self._stopped.clear()
        self._failed_in_a_row = 0
        with _session():
            pool = ThreadPoolExecutor(self.concurrency)
            places = {pool.submit(self._judge, prompt): place for place, prompt in enumerate(prompts)}
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

    def _connect(self, model: str | None) -> str | None:
        """One quick try, before any slow work. Returns the model to ask for, where that can be known."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            with _session():
                response = get_session().get(self.models_url, headers=headers, timeout=PROBE_SECONDS)
        except HTTPError as error:
            reason = self._public(str(error) or type(error).__name__)
            raise InputError(f"judge {self.url} does not answer ({reason}): start its server, then rerun.") from None
        if response.status_code in (401, 403):
            raise InputError(
                f"judge {self.url} refuses {'the key' if self.key else 'to answer without a key'} "
                f"(HTTP {response.status_code}): --api_key_env names the environment variable that holds one."
            )
        try:
            served = [str(each["id"]) for each in response.json()["data"]]
        except Exception:  # not every server lists its models, and what it says instead may be anything
            return model
        if model is None and len(served) > 1:
            some = ", ".join(served[:10]) + (", ..." if len(served) > 10 else "")
            raise InputError(f"judge {self.url} serves several models: choose one by --judge_model: {some}.")
        return model or next(iter(served), None)

    def _judge(self, prompt: str) -> Verdict:
        """The verdict, or the failure, that one prompt ends with."""
        if self._stopped.is_set():
            return Verdict(error=NOT_ASKED)
        text = ""
        try:
            for sampling in self.attempts:
                text = self._ask(prompt, sampling)
                verdict = parse_verdict(self._without_secrets(text))
                if verdict is not None:
                    break
            else:
                verdict = nonsense(self._without_secrets(text))
        except EndpointError as error:
            self._count_failure(fatal=not error.only_this)
            return Verdict(error=self._public(str(error)))
        self._count_failure(fatal=False)
        return verdict

    def _count_failure(self, fatal: bool) -> None:
        with self._lock:
            self._failed_in_a_row = self._failed_in_a_row + 1 if fatal else 0
            if self._failed_in_a_row >= FAILURES_IN_A_ROW:
                self._stopped.set()

    def _ask(self, prompt: str, sampling: Sampling) -> str:
        """What the judge writes; failures that may pass are retried."""
        for wait in WAITS:
            try:
                return self._request(prompt, sampling)
            except EndpointError as error:
                if not error.may_pass:
                    raise
                self._stopped.wait(wait if error.retry_after is None else min(error.retry_after, LONGEST_WAIT))
                if self._stopped.is_set():
                    raise
        return self._request(prompt, sampling)

    def _request(self, prompt: str, sampling: Sampling) -> str:
        """One request. Raises `EndpointError` where it is not answered by a message."""
        options = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "seed": sampling.seed}
        options = {} if self._plain else options
        try:
            output = self.client.chat_completion([user(prompt)], model=self.model, **options)
            content = output.choices[0].message.content
        except InferenceTimeoutError:
            raise EndpointError(f"no answer for {self.timeout:g} s", may_pass=True) from None
        except HfHubHTTPError as error:
            status, said = error.response.status_code, error.server_message or error.response.text
            if status in (400, 422) and any(name in said for name in options):
                self._plain = True
                return self._request(prompt, sampling)
            unnamed = " (asked without a --judge_model)" if self.model is None and status in (400, 404, 422) else ""
            raise EndpointError(
                f"HTTP {status}{unnamed}: {said or error.response.reason_phrase}",
                may_pass=status in (408, 409, 429) or status >= 500,
                retry_after=_seconds(error.response.headers.get("retry-after")),
                only_this=status in (400, 413, 422),
            ) from None
        except HTTPError as error:
            raise EndpointError(f"no connection: {str(error) or type(error).__name__}", may_pass=True) from None
        except Exception as error:  # what is no chat completion makes huggingface_hub raise anything
            raise EndpointError(f"no chat completion: {type(error).__name__}: {error}", may_pass=True) from None
        return content if isinstance(content, str) else ""

    def _without_secrets(self, text: str) -> str:
        """What a server echoes of our headers and our URL must not end in a file."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def _public(self, text: str) -> str:
        """A server's message on one short line."""
        return " ".join(self._without_secrets(text).split())[:300]


@contextmanager
def _session() -> Iterator[None]:
    """Let huggingface_hub's session speak to the judge while HF_HUB_OFFLINE is set: it refuses loopback as well."""
    close_session()
    get_session().event_hooks = {}
    try:
        yield
    finally:
        close_session()  # the next one has the hook again


def _secrets(url: str, key: str | None) -> list[str]:
    """The key, the URL's query, and each of its values that is long enough for a key, not a number of a verdict."""
    query = urlsplit(url).query
    values = [value for _, value in parse_qsl(query) if len(value) >= SHORTEST_KEY]
    return [secret for secret in (key, query and f"?{query}", *values) if secret]


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header in seconds; one that is a date counts as none."""
    return float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None
