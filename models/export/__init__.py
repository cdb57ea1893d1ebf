"""Export a block as one file of Flax source, NNX or Linen, that needs only JAX and Flax.

    write_export(path, dna, ...)    plan -> classes -> text -> verification -> file

`plan` groups operations into steps and submodules and names them. `classes`, `method_body`, `expressions`,
`constructors` and `class_header` write the code. `runtime` contains code that is copied. `render` assembles the file.
`verify` compares outputs of the exported module and the program. If they differ, nothing is written.
"""

from .block_origin import Provenance
from .classes import ParameterPlacement
from .export_program import export_source, parameter_placements, verified_export, write_export
from .runtime_source import API
from .verify import ExportedSource, verify_export

__all__ = [
    "API",
    "ExportedSource",
    "ParameterPlacement",
    "Provenance",
    "export_source",
    "parameter_placements",
    "verified_export",
    "verify_export",
    "write_export",
]
