"""Law 9: only the task that kills its agents fails, all other tasks are done."""

from __future__ import annotations

import pytest

COUNT = 120
KILLER = 37


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_a_task_that_kills_its_agents_fails_as_crashed_and_all_others_are_done(fleet, death):
    fleet.job(
        f"""
        import os, time

        def tasks():
            yield from range({COUNT})

        def task_function(task):
            if task == {KILLER}:
                {death}
            time.sleep(0.001)
            return task
        """
    )
    server = fleet.serve("--local-agents", "2", "--lease", "600", "--capacity", str(COUNT), "--until-done")

    assert server.wait(40) == 7, server

    results = fleet.expect_each_once(list(range(COUNT)), failed=1)
    assert KILLER not in {recorded.number for recorded in results}
    assert {recorded.attempt for recorded in results} == {0}
    (failed,) = fleet.failed()
    assert (failed.number, failed.stage, failed.task) == (KILLER, "crashed", str(KILLER))
    assert (failed.error_type, failed.error) == ("AgentDied", "its agent died three times while it ran")

    fleet.ctl("reload_one_fail_task", "0", str(KILLER))

    assert fleet.waiting_counts() == {KILLER: (0, 0)}
