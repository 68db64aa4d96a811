"More accuracy from a pre-trained image classifier, without retraining: average many crops of each test image."

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.compare import compare
    from .analysis.explore import explore
    from .analysis.stats import report
    from .averaging.wrapper import MID
    from .data.images import ImageSource
    from .data.sources import find_source
    from .errors import InputError
    from .evaluation.evaluate import evaluate
    from .evaluation.runs import Run, evaluate_run
    from .networks.classifier import Classifier, Preprocessing
    from .networks.models import load_classifier

_PLACES = {
    "MID": "averaging.wrapper", "load_classifier": "networks.models", "Classifier": "networks.classifier",
    "Preprocessing": "networks.classifier", "find_source": "data.sources", "ImageSource": "data.images",
    "evaluate": "evaluation.evaluate", "evaluate_run": "evaluation.runs", "Run": "evaluation.runs",
    "report": "analysis.stats", "compare": "analysis.compare", "explore": "analysis.explore", "InputError": "errors",
}  # the module that each public name comes from; loaded when the name is first used, since torch takes seconds
__all__ = [
    "MID", "load_classifier", "Classifier", "Preprocessing", "find_source", "ImageSource",
    "evaluate", "evaluate_run", "Run", "report", "compare", "explore", "InputError",
]


def __getattr__(name: str) -> Any:
    "A public name, from the module that defines it."
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    "The public names, for completion."
    return sorted([*globals(), *__all__])
