"""The benchmark's job: a task that does nothing but come back."""


def task_function(task: int) -> int:
    """Give the task back."""
    return task
