"""Generated text: sampling, where it ends, and that only whole characters are shown."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.models.checkpoint import Weights
from primer_search.models.config import ModelConfig
from primer_search.models.generation import Sampling, generate
from primer_search.models.language_model import language_model
from primer_search.primitives import UsageError
from primer_search.primitives.programs.library import get
from primer_search.search.weights.generate_text import continue_text
from primer_search.tests.support.tiny_runs import BASELINE
from primer_search.tests.support.tiny_weights import SHAPE, TIED, drawn_weights
from primer_search.workers.data.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0.0)
PROMPT = (3, 1, 4)
TOKENIZER = Tokenizer.train(["the cat sat on the mat; naïve café, naïve café, 日本語 🙂🙂"], 290)


def written(weights: Weights, tokens: int, prompt: tuple[int, ...] = PROMPT, **options: object) -> list[int]:
    model = language_model(weights.graph, weights.model)
    return list(generate(model, weights.parameters, prompt, tokens, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "tokens"),
    [
        (drawn_weights(get("PRIMER_EZ", 2), replace(SHAPE, unit=2)), 9),
        (drawn_weights(BASELINE, replace(SHAPE, stack="scan")), 9),
        (drawn_weights(TIED), 5),
    ],
    ids=["PRIMER_EZ", "scanned", "tied to a length"],
)
def test_greedy_text_is_the_argmax_on_the_whole_sequence(weights: Weights, tokens: int) -> None:
    found = written(weights, tokens, sampling=GREEDY)
    whole = np.array([[*PROMPT, *found]], np.int32)
    model = language_model(weights.graph, weights.model)
    logits = jax.jit(model.logits)(weights.parameters, jnp.asarray(whole))
    assert found == np.argmax(logits[0], axis=-1)[len(PROMPT) - 1 : -1].tolist()
    assert len(found) == tokens


def test_a_prompt_decoded_in_chunks_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, prompt = drawn_weights(get("PRIMER_EZ", 1)), tuple(range(3, 15))
    whole = written(weights, 6, prompt, sampling=GREEDY)
    monkeypatch.setattr("primer_search.models.generation.PREFILL_CHUNK", 5)
    assert written(weights, 6, prompt, sampling=GREEDY) == whole


def test_a_cache_that_does_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit into memory"):
        written(drawn_weights(get("PRIMER_EZ", 1)), 10**13)


def test_the_same_seed_writes_the_same_and_another_seed_something_else() -> None:
    weights = drawn_weights(BASELINE)
    first, again, other = (written(weights, 12, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_top_1_is_greedy_at_any_temperature() -> None:
    weights = drawn_weights(BASELINE)
    assert written(weights, 8, sampling=Sampling(2.0, top_k=1)) == written(weights, 8, sampling=GREEDY)


def test_only_the_top_k_are_drawn_and_in_proportion() -> None:
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.4]]))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: Sampling(1.0, top_k=2).draw(logits, key))(keys))
    assert set(drawn.ravel()) == {2, 3}
    assert np.mean(drawn == 3) == pytest.approx(4 / 7, abs=0.03)


def test_ids_that_the_tokenizer_has_no_text_for_are_never_drawn() -> None:
    assert max(written(drawn_weights(BASELINE), 20, sampling=Sampling(5.0, top_k=0), vocabulary=7)) < 7


def test_an_empty_prompt_has_no_next_token() -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        written(drawn_weights(BASELINE), 3, prompt=())


def test_a_program_tied_to_a_length_says_where_it_ends() -> None:
    with pytest.raises(UsageError, match=r"tied to 8 tokens.* at most 5 tokens"):
        written(drawn_weights(TIED), 6)


@pytest.mark.parametrize(("field", "value"), [("temperature", -0.1), ("temperature", float("nan")), ("top_k", -1)])
def test_a_sampling_out_of_bounds_names_its_field(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{field} is {value}"):
        Sampling(**{field: value})  # type: ignore[arg-type]


# --- text ---------------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_pieces_are_whole_characters_and_together_the_text(text: str) -> None:
    pieces = list(TOKENIZER.decode_stream(TOKENIZER.encode(text)))
    assert "".join(pieces) == text
    assert all(("\N{REPLACEMENT CHARACTER}" in piece) <= ("\N{REPLACEMENT CHARACTER}" in text) for piece in pieces)


def test_a_character_of_several_tokens_comes_with_its_last() -> None:
    bytewise = Tokenizer.train(["plain"], 257)
    ids = bytewise.encode("é🙂!")
    assert list(bytewise.decode_stream(ids)) == ["", "é", "", "", "", "🙂", "!"]


def test_bytes_that_never_become_a_character_are_shown_at_last() -> None:
    bytewise = Tokenizer.train(["plain"], 257)
    ids = bytewise.encode("🙂")[:2]
    assert list(bytewise.decode_stream(ids)) == ["", "", "\N{REPLACEMENT CHARACTER}"]


@given(st.lists(st.integers(0, 289), max_size=20))
def test_pieces_of_any_tokens_make_up_what_they_decode_to(ids: list[int]) -> None:
    ids = [token for token in ids if token < TOKENIZER.size]
    assert "".join(TOKENIZER.decode_stream(ids)) == TOKENIZER.decode(ids)


def test_text_ends_with_its_document() -> None:
    weights = drawn_weights(BASELINE)
    end = Tokenizer.from_json(weights.tokenizer).end_of_document
    weights.parameters["embedding"][:] = 0.0
    weights.parameters["embedding"][end] = 1.0
    weights.parameters["final_norm"]["bias"][:] = 1.0
    text = continue_text(weights, "the cat", 20, GREEDY)
    assert "".join(text) == ""
    assert (text.tokens, text.tokens_per_second) == (0, None)


def test_an_empty_prompt_begins_a_document_and_long_text_is_noted() -> None:
    weights = drawn_weights(BASELINE, ModelConfig(layers=1, unit=1, length=8, vocabulary=300))
    text = continue_text(weights, "", 30, Sampling(1.0))
    assert text.prompt_tokens == 1
    assert "8 tokens" in text.notes[0]
    assert len("".join(text)) > 0
    assert text.tokens_per_second is not None
    assert continue_text(weights, "", 7, Sampling(1.0)).notes == ()


def test_a_prompt_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        continue_text(drawn_weights(BASELINE), "\udcff", 3, GREEDY)


def test_a_model_of_denoisers_reads_the_prompt_as_a_prefix_after_its_mode() -> None:
    shape = replace(SHAPE, unit=2, vocabulary=310)  # 300 ids of the text, three modes and seven sentinels
    weights = drawn_weights(get("PRIMER_EZ", 2), shape, objective="ul2r", prefix=True, vocabulary=300)
    tokenizer = Tokenizer.from_json(weights.tokenizer)
    text = continue_text(weights, "the cat", 4, GREEDY)
    prompt = (302, *tokenizer.encode("the cat"))
    wanted = written(weights, 4, prompt, sampling=GREEDY, vocabulary=tokenizer.size, prefix=True)
    assert "".join(text) == tokenizer.decode(wanted) and text.prompt_tokens == len(prompt) - 1
    causal = written(weights, 4, prompt[1:], sampling=GREEDY, vocabulary=tokenizer.size)
    assert wanted != causal
