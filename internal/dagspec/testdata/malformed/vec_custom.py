from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.providers.standard.operators.python import PythonOperator


class VecOperator(BaseOperator):
    template_fields = ("message", "n")
    template_ext = (".txt",)
    ui_color = "#123456"

    def __init__(self, *, message, n=1, **kwargs):
        super().__init__(**kwargs)
        self.message = message
        self.n = n

    def execute(self, context):
        return self.message


class VecPython(PythonOperator):
    def __init__(self, flavor="sweet", **kwargs):
        super().__init__(**kwargs)
        self.flavor = flavor


class VecSensor(BaseSensorOperator):
    template_fields = ["path"]

    def __init__(self, path, **kwargs):
        super().__init__(**kwargs)
        self.path = path

    def poke(self, context):
        return True
