"""The Python interface: the commands as typed Python functions and objects.

    import primer_search

    run = primer_search.start_search(budget="2m", config="smoke")  # or primer_search.open_run("runs/first")
    for trial in run.evaluations(follow=True):
        print(trial.candidate_id, trial.evaluation.outcome, trial.evaluation.loss_nats)
    block = run.best().flax_module()

It uses the same functions as the commands. Import its names from `primer_search`; docs/python.md describes them.
"""

__all__ = ["program_graph", "refinement", "run", "run_candidate", "search_process", "start_search"]
