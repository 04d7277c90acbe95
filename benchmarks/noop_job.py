"""A job whose tasks do nothing."""


def task_function(task: int) -> int:
    """Return the task."""
    return task
