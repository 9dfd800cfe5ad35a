"""Imported by the process that `warm` forks: what runs need. Nothing is computed, so no thread begins to work.

Every module that a stage may take up later is loaded, and its version taken, so that runs forked hours later are of the
code that the table began with, and say so, whatever was edited in between.
"""

from importlib import import_module

from ssl_defect.anomaly import stage as anomaly
from ssl_defect.artifacts import code_version
from ssl_defect.data.sources import SOURCES
from ssl_defect.finetune import CLASSICAL, TASKS
from ssl_defect.fingerprints import STAGES
from ssl_defect.nets.anomaly import DETECTORS
from ssl_defect.pretrain import METHODS

TABLES = (STAGES, SOURCES, METHODS, TASKS | CLASSICAL, DETECTORS)
MODULES = [anomaly.__name__, *(entry[0] for table in TABLES for entry in table.values() if entry[0])]

for _module in ("timm", *MODULES):  # backbones import it where they use it
    import_module(_module)
code_version(*MODULES)
