"""Two schedules over `condgen submit`: training every Sunday, the archive every night.

They are two DAGs, because neither waits for the other: the batch job takes the model that its command names. The
commands are variables of Airflow (`condgen_train`, `condgen_colorize`); their defaults stand here.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG
from condgen_operator import CondgenOperator

TRAIN = (
    "train --preset color-classifier --data s3://condgen-data/dataset --out s3://condgen-data/runs/first"
    " --workers 1:8 --wait-for 30m --max-duration 11h"
)
COLORIZE = (
    "colorize s3://condgen-data/archive s3://condgen-data/results --draws 3 --actors 1:16 --num-gpus 0.5 --wait-for 30m"
)

for name, schedule, default in (("train", "0 6 * * 0", TRAIN), ("colorize", "0 1 * * *", COLORIZE)):
    with DAG(
        f"condgen_{name}",
        schedule=schedule,
        start_date=datetime(2026, 1, 1),  # Airflow takes it as UTC
        catchup=False,  # nights that were missed are not made up for: the next one does all that is left
        max_active_runs=1,
        default_args={"retries": 5, "retry_delay": timedelta(minutes=5)},
        tags=["condgen"],
    ) as dag:
        CondgenOperator(task_id=name, command=f"{{{{ var.value.get('condgen_{name}', '{default}') }}}}")
    globals()[dag.dag_id] = dag
