from .engine import describe_run as describe_run
from .engine import train as train
from .options import TrainOptions as TrainOptions
from .report import TrainReport as TrainReport
from .run_folder import MetricRow as MetricRow
from .validation_rows import ValidationRow as ValidationRow
