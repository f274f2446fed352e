"""Answers sampled by a server, such as vLLM, with the weights in training: each version is an adapter that the server loads.

The tokens are the server's own if it returns them; otherwise its text is tokenised here.

Each version has a name of its own that holds a hash of its weights. vLLM finds its cached prefixes by an adapter's name, so
that other weights under one name can be answered with keys and values of the earlier ones (vllm-project/vllm, issue 42125);
its `load_inplace` is therefore not used. And where a name is loaded already, by a run that was killed, it is these weights.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lastresort.data.rendering import ChatTokenizer
from lastresort.engine.forest import common_length
from lastresort.errors import CandidateError, InputError, StoppedError, TaskError
from lastresort.models.api.model import ApiModel
from lastresort.models.api.refusals import CommandDenied
from lastresort.models.api.replies import Reply, Tokens
from lastresort.models.calls import RetryPolicy
from lastresort.models.constrained import cut_at_stop, holds_stop
from lastresort.models.protocol import Prompt
from lastresort.records.atomic import replace_folder
from lastresort.train.adapters.adapters import save_adapter
from lastresort.train.groups.sampling import GroupPrompt, Sampled, decoded, member_seed
from lastresort.train.loop.processes import Processes
from lastresort.train.settings import GroupSettings
from lastresort.types import Decoding, JsonObject

FOLDER = "served"
ONCE = RetryPolicy(attempts=1)


class ServedAdapter:
    """The adapter below `output`, loaded by the server before every `every`-th step and wherever it has none of this run yet.

    name: what versions are called, before their step. seen_as: `output` as the server sees it, None for the same path.
    """

    def __init__(
        self, server: ApiModel, output: Path, *, name: str = "policy", every: int = 1, seen_as: str | None = None
    ) -> None:
        self._server, self._folder, self._name, self._every = server, output / FOLDER, name, every
        self._seen_as = str(output) if seen_as is None else seen_as.rstrip("/")
        self._served: tuple[str, int] | None = None

    def bring(self, step: int, model: Any) -> tuple[str, int]:
        """The name of the adapter to ask for in step `step`, and the step whose weights it holds.

        Raises InputError where the server cannot load it, InfrastructureError where it cannot be reached or the disk refuses.
        """
        if self._served is None or step % self._every == 0:
            name = self._written(step, model)
            self.load(name)
            self._served = (name, step)
            self._drop_others(name)
        return self._served

    def load(self, name: str) -> None:
        """Have the server load a version that was written, unless it has it. Raises as `bring` does."""
        body = {"lora_name": name, "lora_path": f"{self._seen_as}/{FOLDER}/{name}"}
        denied = self._server.command("/load_lora_adapter", body)
        if denied is not None and not (denied.status == 400 and "already" in denied.message):
            raise _adapter_refused(denied, self._server.name, body["lora_path"])

    def close(self) -> None:
        """Leave nothing of the run in the server or on the disk; what is served is in the checkpoint too."""
        with suppress(StoppedError):  # a server that is gone serves nothing
            self._drop_others("")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, step: int, model: Any) -> str:
        fresh = self._folder / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        save_adapter(model, fresh)
        digest = hashlib.sha256()
        for path in sorted(fresh.iterdir()):
            digest.update(path.read_bytes())
        name = f"{self._name}-{step}-{digest.hexdigest()[:12]}"
        replace_folder(fresh, self._folder / name)
        return name

    def _drop_others(self, name: str) -> None:
        """Unload earlier versions, also those of a run that was killed. The reply does not matter: they are not used again."""
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if folder.name != name:
                self._server.command("/unload_lora_adapter", {"lora_name": folder.name}, patience=ONCE)
                shutil.rmtree(folder, ignore_errors=True)


def _adapter_refused(denied: CommandDenied, where: str, path: str) -> InputError:
    said = f"{denied.status}: {denied.message}" if denied.message else str(denied.status)
    if denied.status in (404, 405) and "adapter" not in denied.message.lower():
        return InputError(
            f"the server loads no adapters while it runs ({said})",
            where=where,
            expected="vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
            remedy="Start it so, or write sync: never below server; its answers then come from another policy than the "
            "one that is trained.",
        )
    return InputError(
        f"the server does not load the adapter at {path} ({said})",
        where=where,
        expected="a server that sees this folder and takes an adapter of this kind and rank",
        remedy="Share the folder and name it as the server sees it in server.output_seen_as, or start vLLM with what it asks for, "
        "such as --max-lora-rank.",
    )


# vLLM fills what a request leaves out from the model's generation_config.json, as if the request had set it.
WHOLE_DISTRIBUTION = {"min_p": 0.0, "repetition_penalty": 1.0}


class ServerSampler:
    """adapter: gives the server the weights that are trained; None where its answers come from another policy. end_ids: with
    which an answer ends, the first being added where the server tells no tokens. ask_tokens: whether to ask for them, and in
    vLLM's words for the distribution that is trained; they are left out for a server that refuses them."""

    def __init__(
        self,
        server: ApiModel,
        tokenizer: ChatTokenizer,
        end_ids: Sequence[int],
        settings: GroupSettings,
        seed: int,
        *,
        adapter: ServedAdapter | None = None,
        ask_tokens: bool = True,
    ) -> None:
        self._server, self._tokenizer, self._end_ids = server, tokenizer, tuple(end_ids)
        self._settings, self._seed, self._adapter, self._ask_tokens = settings, seed, adapter, ask_tokens
        self._served: tuple[str, int] | None = None

    def begin(self, step: int, model: Any, processes: Processes) -> None:
        adapter = self._adapter
        if adapter is not None:
            self._served = processes.from_main(lambda: adapter.bring(step, model))

    def answers(
        self, model: Any, step: int, prompts: Sequence[GroupPrompt], *, plain: bool = False
    ) -> list[list[Sampled]]:
        """Raises InputError where the server refuses, or renders a prompt into other tokens than it has here."""
        settings, size = self._settings, self._settings.group_size
        decoding = Decoding(
            settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            stop=settings.stop,
            seed=member_seed(self._seed, step, "", 0) % 2**31,  # it counts up from here for each member
        )
        present = self._served is not None and self._served[1] == step
        replies = self._replies([prompt.messages for prompt in prompts for _ in range(size)], decoding, present)
        owners = [prompt for prompt in prompts for _ in range(size)]
        answers = [
            self._sampled(self._of_ours(prompt, reply), present) for prompt, reply in zip(owners, replies, strict=True)
        ]
        return [answers[i : i + size] for i in range(0, len(answers), size)]

    def close(self) -> None:
        if self._adapter is not None:
            self._adapter.close()

    def _replies(self, prompts: Sequence[Prompt], decoding: Decoding, present: bool) -> list[Reply]:
        try:
            return self._asked(prompts, decoding, present)
        except TaskError as error:
            if self._adapter is None or self._served is None:
                raise _refused(error) from None
        except CandidateError as error:
            raise _refused(error) from None
        self._adapter.load(self._served[0])  # a restarted server has forgotten it
        try:
            return self._asked(prompts, decoding, present)
        except TaskError as error:
            raise _refused(error) from None

    def _asked(self, prompts: Sequence[Prompt], decoding: Decoding, present: bool) -> list[Reply]:
        served_as = None if self._served is None else self._served[0]
        extra = self._extra(present) if self._ask_tokens else {}
        try:
            return self._server.replies(prompts, decoding, served_as=served_as, extra=extra)
        except TaskError as error:
            if not any(key in error.found for key in extra):
                raise
        self._ask_tokens = False  # a server that refuses what it does not know
        return self._server.replies(prompts, decoding, served_as=served_as)

    def _extra(self, present: bool) -> JsonObject:
        """The further keys of a request. present: the present weights answer, so that nobody need know how likely they were."""
        settings = self._settings
        drawn = {"top_p": settings.top_p, "top_k": settings.top_k or -1, **WHOLE_DISTRIBUTION}
        return {"return_token_ids": True, **drawn, **({} if present else {"logprobs": True})}

    def _of_ours(self, prompt: GroupPrompt, reply: Reply) -> Reply:
        """The reply, without its tokens where they are those of another tokenizer, as another policy may have."""
        there, here = reply.tokens.prompt, prompt.ids
        if there is None or there == here:
            return reply
        if self._adapter is None:
            return replace(reply, tokens=Tokens(stop_reason=reply.tokens.stop_reason))
        raise InputError(
            f"the server renders the prompt of {prompt.example.place} into {len(there)} tokens, here it has {len(here)}, "
            f"and they differ from token {common_length(there, here) + 1} on",
            where=self._server.name,
            expected="the model that is trained, with its tokenizer and chat template",
            remedy="Serve that model, with the template that it brings.",
        )

    def _sampled(self, reply: Reply, present: bool) -> Sampled:
        ids, text, ended = self._tokens_told(reply) if reply.tokens.answer is not None else self._tokens_of_text(reply)
        limit = self._settings.max_new_tokens
        logps = () if present else (reply.tokens.logps or ())[: len(ids)]
        cut = not ended or len(ids) > limit
        return Sampled(ids[:limit], text, cut, logps[:limit] if len(logps) == len(ids) else ())

    def _tokens_told(self, reply: Reply) -> tuple[tuple[int, ...], str, bool]:
        tokens, stops, ended = reply.tokens, self._settings.stop, reply.finish == "stop"
        ids = tokens.answer or ()
        text = decoded(self._tokenizer, ids)
        if any(stop in text for stop in stops):
            # A server that computes several tokens at once tells some beyond the string.
            length = next(
                n for n in range(1, len(ids) + 1) if holds_stop(ids[:n], stops, partial(decoded, self._tokenizer))
            )
            return ids[:length], cut_at_stop(text, stops), True
        if (
            ended
            and not _by_string(tokens)
            and not (ids and (ids[-1] in self._end_ids or ids[-1] == tokens.stop_reason))
        ):
            ids = (*ids, *self._end_ids[:1])
        return ids, text, ended

    def _tokens_of_text(self, reply: Reply) -> tuple[tuple[int, ...], str, bool]:
        """What ended the answer is known to some servers: a stop string's own tokens are trained, and where it may have been
        one no end token is."""
        tokens, ended = reply.tokens, reply.finish == "stop"
        by_string = ended and _by_string(tokens)
        ids = self._tokenised(f"{reply.text}{tokens.stop_reason}" if by_string else reply.text)
        if ended and not by_string and (tokens.stop_reason is not None or not self._settings.stop):
            ids = (*ids, *self._end_ids[:1])
        return ids, reply.text, ended

    def _tokenised(self, text: str) -> tuple[int, ...]:
        return tuple(int(token) for token in self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _by_string(told: Tokens) -> bool:
    return isinstance(told.stop_reason, str) and told.stop_reason != ""


def _refused(error: TaskError | CandidateError) -> InputError:
    """In the words of a training file, whose keys the server's refusal does not know."""
    return InputError(
        error.found,
        where=error.where,
        expected=error.expected,
        remedy="Correct server, or what the request sets: max_new_tokens, temperature, top_p, top_k, stop.",
    )
