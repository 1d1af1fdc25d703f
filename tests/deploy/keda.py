"""Judges a ScaledObject by the models of KEDA's own definition: keda.py FILE.yaml. A key that they do not know is an error."""

import sys

import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

with open(sys.argv[1], encoding="utf-8") as file:
    written = yaml.safe_load(file)

# Types and required keys are judged here.
read = ScaledObject.model_validate(written)
# Unknown keys are dropped in silence, so what was read must say all that was written.
understood = read.model_dump(mode="json", by_alias=True, exclude_unset=True)


def missing(here, there, path):
    """Where `here` says something that `there` does not."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key, value in here.items():
            yield from missing(value, there[key], f"{path}.{key}") if key in there else [f"{path}.{key}"]
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for index, pair in enumerate(zip(here, there)):
            yield from missing(*pair, f"{path}[{index}]")
    elif here != there:
        yield path


unknown = list(missing(written, understood, "ScaledObject"))
if unknown:
    sys.exit(f"{sys.argv[1]}: not known to KEDA: {', '.join(unknown)}")
print(f"{sys.argv[1]} passed as a ScaledObject of KEDA")
