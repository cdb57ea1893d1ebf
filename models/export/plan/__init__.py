"""The plan of an exported module, independent of the API: what is one call, what is a submodule, names and sizes.

Graph -> grouping.plan_export -> ExportPlan of Steps -> submodules.find_submodules
"""

__all__ = ["grouping", "idioms", "names", "sizes", "steps", "submodules"]
