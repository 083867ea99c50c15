"""Models as estimators of scikit-learn, which this module needs: ``import pgnn.estimators``."""

try:
    import sklearn as _sklearn
except ImportError as error:
    raise ImportError(
        "pgnn.estimators needs scikit-learn, which is not installed: "
        "python -m pip install 'pgnn[estimators]'"
    ) from error

from pgnn.estimators.classifier import Classifier
from pgnn.estimators.sequence_tagger import LabelSequences, SequenceTagger
from pgnn.estimators.unit_features import UnitFeatures

del _sklearn

__all__ = ["Classifier", "LabelSequences", "SequenceTagger", "UnitFeatures"]


def __dir__() -> list[str]:
    return [*__all__]
