from .comparison import Difference as Difference
from .comparison import compare_rows as compare_rows
from .job import Evaluation as Evaluation
from .job import evaluate as evaluate
from .options import EvaluateOptions as EvaluateOptions
from .stored import read_evaluation as read_evaluation
