"""`mutitask serve`: the dashboard in browsers."""
