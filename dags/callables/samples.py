"""Functions that the sample DAGs call. Plain Python, no import of Airflow."""
import datetime


def choose_path(numbers, limit=10, **context):
    """Return the task to follow: the id is one of the branch's direct downstream tasks."""
    return "large" if sum(numbers) > limit else "small"


def list_orders():
    """What a real DAG would read from a database."""
    return [{"id": 1, "amount": 120}, {"id": 2, "amount": 80}, {"id": 3, "amount": 45}]


def enrich(order, rate):
    return {**order, "gross": round(order["amount"] * (1 + rate), 2)}


def total(orders):
    gross = sum(order["gross"] for order in orders)
    print(f"{len(list(orders))} orders, {gross:.2f} gross")
    return gross


def divide(amount: float, parts: int) -> dict:
    """The annotation of a mapping makes every key an XCom of its own."""
    return {"share": amount / parts, "parts": parts}


def report(share, parts):
    print(f"{parts} shares of {share}")


def is_open(opens_at="00:00"):
    """A sensor's function: true once the (UTC) clock passes opens_at."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%H:%M")
    return now >= opens_at


def notify(context, channel="log"):
    """A callback: print who failed."""
    print(f"[{channel}] {context['task_instance'].task_id} failed")
