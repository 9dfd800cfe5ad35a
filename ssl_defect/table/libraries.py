"""Imported by the process that `warm` forks: what every run needs. Nothing is computed, so no thread begins to work."""

from importlib import import_module

from ssl_defect.fingerprints import STAGES

for _module, _ in STAGES.values():
    import_module(_module)
