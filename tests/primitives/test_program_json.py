"""DNA as JSON: exact round trips, and one clear sentence for everything that is not a DNA."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.errors import MalformedProgramError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import DNA, MAX_INLINED_INSTRUCTIONS, Instruction, Subprogram
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.primitives.programs.validation import check_well_formed, inlined_instruction_counts
from primer_search.tests.support.strategies import dnas, random_dna


def plain(name: str = "TRANSFORMER") -> dict[str, Any]:
    """The JSON of a library program as Python objects, free to be spoilt."""
    return json.loads(dna_to_json(library.get(name)))


def doubling(levels: int) -> DNA:
    """Subprograms each of which calls the next twice, in a row."""
    twice = tuple(
        Subprogram(f"level{k}", (Instruction(f"call:{k + 1}"), Instruction(f"call:{k + 1}", in1=2)))
        for k in range(levels)
    )
    return DNA((0.0,), (8,), (*twice, Subprogram("leaf", (Instruction("SQUARE"),))))


def refusal(text: str) -> str:
    """The sentence with which a text is refused."""
    with pytest.raises(MalformedProgramError) as caught:
        dna_from_json(text)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


@pytest.mark.parametrize("name", library.names())
def test_a_library_program_survives_the_round_trip_exactly(name: str) -> None:
    dna = library.get(name)
    text = dna_to_json(dna)
    assert dna_from_json(text) == dna
    assert dna_to_json(dna_from_json(text)) == text
    assert dna_from_json(dna_to_json(dna)) == dna


@given(dnas())
def test_any_program_survives_the_round_trip_exactly(dna: DNA) -> None:
    text = dna_to_json(dna)
    assert dna_from_json(text) == dna
    assert dna_to_json(dna_from_json(text)) == text
    assert text.isascii()


def test_the_text_may_be_laid_out_freely_and_comes_back_canonical() -> None:
    loose = json.dumps(plain("PRIMER"), indent=4, sort_keys=True)
    assert dna_from_json(loose) == library.PRIMER
    assert dna_to_json(dna_from_json(loose)) == dna_to_json(library.PRIMER)


def test_whole_numbers_are_constants_and_come_back_as_floats() -> None:
    data = plain()
    data["constants"] = [0, 1]
    constants = dna_from_json(json.dumps(data)).constants
    assert constants == (0.0, 1.0)
    assert all(type(constant) is float for constant in constants)


def test_length_dependence_is_written_only_where_it_holds() -> None:
    assert "length_dependent" not in dna_to_json(library.TRANSFORMER)
    assert plain("PRIMER")["length_dependent"] is True
    assert dna_from_json(json.dumps(plain() | {"length_dependent": False})) == library.TRANSFORMER


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not JSON", "empty"]),
        ("op: ADD", ["not JSON"]),
        ('{"format": 1,}', ["not JSON"]),
        ("[]", ["a list", "object", "subprograms"]),
        ("3", ["3", "object"]),
        ("null", ["null"]),
        ('{"format": 1}', ["lacks", "'constants'"]),
        ('{"format": 2, "whatever": 0}', ["format is 2", "format 1"]),
        ('{"format": true}', ["format is true"]),
        ('{"format": 1.0}', ["format is 1.0"]),
        ('{"format": "1"}', ["format is '1'"]),
        ('{"format": 1, "format": 1}', ["'format'", "twice"]),
        ("[" * 100_000, ["nests too deeply"]),
        ('{"format":' * 100_000, ["nests too deeply"]),
        ('{"format": ' + "9" * 5_000 + "}", ["thousands of digits"]),
        ('{"format": ' + "9" * 4_000 + "}", ["an integer of about 400"]),
        ('{"constants": [NaN]}', ["NaN"]),
        ('{"constants": [-Infinity]}', ["-Infinity"]),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_json_object_of_a_dna_is_refused(text: str, words: list[str]) -> None:
    sentence = refusal(text)
    assert all(word in sentence for word in words), sentence


FIRST = "subprogram 2 (feed_forward), instruction 2"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("op", "MAXX", ["'MAXX'", "did you mean MAX?"]),
        ("op", "conv_1x1", ["did you mean CONV_1X1?"]),
        ("op", "zzz", ["unknown", "primer-search primitives"]),
        ("op", "", ["unknown"]),
        ("op", 7, ["op is 7"]),
        ("op", None, ["op is null"]),
        ("op", ["ADD"], ["op is a list"]),
        ("op", {"ADD": 1}, ["op is an object"]),
        ("op", "call:2", ["higher subprogram", "K = 3 to 9"]),
        ("op", "call:0", ["higher subprogram", "cycle"]),
        ("op", "call:10", ["higher subprogram", "K = 3 to 9"]),
        ("op", "call:-1", ["higher subprogram"]),
        ("op", "call:03", ["higher subprogram"]),
        ("op", "call: 3", ["higher subprogram"]),
        ("op", "call:٣", ["higher subprogram"]),
        ("op", "call:", ["higher subprogram"]),
        ("op", "call:" + "9" * 9_000, ["higher subprogram"]),
        ("in1", 4, ["in1 is 4", "0 to 3"]),
        ("in1", -1, ["in1 is -1", "0 to 3"]),
        ("in1", True, ["in1 is true"]),
        ("in1", 1.0, ["in1 is 1.0"]),
        ("in1", "0", ["in1 is '0'"]),
        ("in1", None, ["in1 is null"]),
        ("in1", [0], ["in1 is a list"]),
        ("in1", 10**100, ["in1 is an integer of about 101 digits"]),
        ("in2", 4, ["in2 is 4", "0 to 3"]),
        ("in2", False, ["in2 is false"]),
        ("constant", 2, ["constant is 2", "0 to 1", "holds 2"]),
        ("constant", -1, ["constant is -1"]),
        ("constant", 0.0, ["constant is 0.0"]),
        ("dimension", 6, ["dimension is 6", "0 to 5", "holds 6"]),
        ("dimension", True, ["dimension is true"]),
        ("branches", 3, ["branches is 3", "1, 2, 4, 8, 16"]),
        ("branches", 0, ["branches is 0"]),
        ("branches", 32, ["branches is 32"]),
        ("branches", True, ["branches is true"]),
        ("branches", 1.0, ["branches is 1.0"]),
        ("branches", "8", ["branches is '8'"]),
        ("branches", {}, ["branches is an object"]),
    ],
)
def test_a_bad_field_is_named_with_its_place_value_and_remedy(field: str, value: object, words: list[str]) -> None:
    data = plain()
    data["subprograms"][2]["instructions"][2][field] = value
    sentence = refusal(json.dumps(data))
    assert sentence.startswith(FIRST), sentence
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("field", ["in1", "in2", "constant", "dimension"])
def test_a_field_that_its_op_ignores_is_held_to_its_range_all_the_same(field: str) -> None:
    dna = DNA((0.0,), (8,), (Subprogram("main", (Instruction("SQUARE"),)),))
    check_well_formed(dna)
    spoilt = replace(dna.subprograms[0].instructions[0], **{field: 99})
    with pytest.raises(MalformedProgramError, match=rf"subprogram 0 \(main\), instruction 0 \(SQUARE\): {field} is 99"):
        check_well_formed(dna.with_instructions(0, (spoilt,)))


def test_an_instruction_cannot_read_itself() -> None:
    data = plain()
    data["subprograms"][0]["instructions"][0]["in1"] = 2
    assert "in1 is 2, but must be an integer from 0 to 1" in refusal(json.dumps(data))


def test_the_last_subprogram_can_call_none() -> None:
    data = plain()
    data["subprograms"][9]["instructions"][0]["op"] = "call:9"
    message = refusal(json.dumps(data))
    assert "subprogram 9" in message and "last subprogram" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dimensions": [10**9]}, ["dimensions[0] is 1000000000", "1, 2, 4, 8, 12, 16, 24, 32, 48, 64"]),
        ({"dimensions": [8, 8.0, 8, 8, 8, 8]}, ["dimensions[1] is 8.0"]),
        ({"dimensions": [True]}, ["dimensions[0] is true"]),
        ({"dimensions": []}, ["dimensions holds 0", "1 to 16"]),
        ({"dimensions": [8] * 17}, ["dimensions holds 17", "1 to 16"]),
        ({"dimensions": 8}, ["dimensions is 8", "list"]),
        ({"constants": []}, ["constants holds 0", "1 to 16"]),
        ({"constants": [0.0] * 17}, ["constants holds 17"]),
        ({"constants": {"0": 1}}, ["constants is an object", "list"]),
        ({"constants": [0.0, "0.125"]}, ["constants[1] is '0.125'", "finite"]),
        ({"constants": [0.0, True]}, ["constants[1] is true"]),
        ({"constants": [0.0, None]}, ["constants[1] is null"]),
        ({"constants": [0.0, 10**400]}, ["constants[1] is an integer of about 401 digits"]),
        ({"subprograms": []}, ["0 subprograms", "1 (MAIN) to 256"]),
        ({"subprograms": {}}, ["subprograms is an object"]),
        ({"subprograms": [[]]}, ["subprogram 0 is a list"]),
        ({"subprograms": [{"name": "main"}]}, ["subprogram 0", "lacks", "'instructions'"]),
        ({"subprograms": [{"name": "main", "instructions": []}]}, ["subprogram 0 (main)", "no instructions"]),
        ({"subprograms": [{"name": "main", "instructions": 3}]}, ["subprogram 0 (main)", "instructions is 3"]),
        ({"subprograms": [{"name": "main", "instructions": ["ADD"]}]}, ["instruction 0", "'ADD'", "object"]),
        ({"length_dependent": 1}, ["length_dependent is 1", "true or false"]),
        ({"length_dependant": True}, ["'length_dependant'", "did you mean length_dependent?"]),
    ],
    ids=str,
)
def test_bad_banks_and_subprograms_are_named(change: dict[str, Any], words: list[str]) -> None:
    sentence = refusal(json.dumps(plain() | change))
    assert all(word in sentence for word in words), sentence


def test_a_constant_beyond_the_floats_is_refused() -> None:
    assert "constants[1] is inf" in refusal(dna_to_json(library.TRANSFORMER).replace("0.125", "1e999"))


def test_257_subprograms_are_too_many() -> None:
    data = plain()
    data["subprograms"] += [data["subprograms"][9]] * 247
    assert "257 subprograms" in refusal(json.dumps(data))
    data["subprograms"].pop()
    assert len(dna_from_json(json.dumps(data)).subprograms) == 256


@pytest.mark.parametrize("name", [None, 3, ["main"], "\ud800"])
def test_a_name_is_text(name: object) -> None:
    data = plain()
    data["subprograms"][1]["name"] = name
    assert refusal(json.dumps(data)).startswith("subprogram 1: name is")


def test_missing_unknown_and_repeated_keys_of_an_instruction_are_named() -> None:
    data = plain()
    instruction = data["subprograms"][2]["instructions"][2]
    del instruction["in2"]
    sentence = refusal(json.dumps(data))
    assert sentence.startswith(f"{FIRST} (call:9) lacks the key 'in2'"), sentence
    instruction |= {"in2": 0, "branchs": 1}
    assert "unknown key 'branchs'; did you mean branches?" in refusal(json.dumps(data))
    del instruction["branches"]
    assert "lacks the key 'branches'" in refusal(json.dumps(data))
    text = dna_to_json(library.TRANSFORMER).replace('"in1": 3, "in2": 0', '"in1": 3, "in1": 0, "in2": 0', 1)
    assert "'in1' appears twice" in refusal(text)


def test_an_odd_name_leaves_the_sentence_on_one_line() -> None:
    data = plain()
    data["subprograms"][2]["name"] = "feed\nforward\x1b[31m" + "x" * 1_000
    data["subprograms"][2]["instructions"][2]["in1"] = 99
    assert "feed\\nforward" in refusal(json.dumps(data))


def test_forty_levels_of_doubling_calls_answer_at_once() -> None:
    started = time.process_time()
    with pytest.raises(MalformedProgramError, match=r"level\d+.* inlined.*4096"):
        check_well_formed(doubling(40))
    with pytest.raises(MalformedProgramError, match="inlined"):
        check_well_formed(doubling(255))
    assert time.process_time() - started < 1.0


def test_the_bound_on_inlined_instructions_is_exact() -> None:
    assert inlined_instruction_counts(doubling(12))[0] == MAX_INLINED_INSTRUCTIONS
    check_well_formed(doubling(12))
    with pytest.raises(MalformedProgramError, match=r"subprogram 0 \(level0\) .* 8192 instructions"):
        check_well_formed(doubling(13))


def test_nothing_malformed_is_written() -> None:
    with pytest.raises(MalformedProgramError, match=r"constants\[0\] is nan"):
        dna_to_json(replace(library.TRANSFORMER, constants=(float("nan"), 0.125)))
    with pytest.raises(MalformedProgramError, match="constants is a list"):
        dna_to_json(replace(library.TRANSFORMER, constants=[0.0, 0.125]))  # pyright: ignore[reportArgumentType]


def test_random_programs_are_well_formed(rng: np.random.Generator) -> None:
    for _ in range(200):
        check_well_formed(random_dna(rng))


@given(st.text())
def test_any_text_is_a_dna_or_gets_one_sentence(text: str) -> None:
    refusal(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_value_put_anywhere_is_accepted_or_gets_one_sentence(data: st.DataObject) -> None:
    spoilt = plain("PRIMER_EZ")
    holder: Any = spoilt
    while True:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if not isinstance(holder[key], dict | list) or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(VALUES)
    text = json.dumps(spoilt)
    try:
        dna = dna_from_json(text)
    except MalformedProgramError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 500
    else:
        assert dna_from_json(dna_to_json(dna)) == dna
