"""Programs: DNA, its JSON and text forms, validation, live instructions, and the library of named programs."""

__all__ = [
    "assembler",
    "library",
    "library_texts",
    "liveness",
    "pretty_printer",
    "program",
    "program_json",
    "validation",
]
