"""Experiments of the papers at a scale that two cores can run: `python -m bench.papers NAME`, a page each.

An experiment is a module in `studies`: a docstring (a title, a blank line, what is asked and how), and

    STUDY = Study(
        contenders=tuple(
            Contender(f"EASGD, period {period}", ls.EASGD(period), ls.SGD(0.1), ls.Simulated(4), steps=2000)
            for period in (1, 16)
        ),
    )
    FINDINGS = "What the table and the plot show; where the paper's shape does not reproduce, and why."

A contender with `tried`, pairs of a strategy and an optimizer, runs each of them once on the study's tuning seed,
and is shown with the best of them (by `Study.best`: the test accuracy at the end, unless it says otherwise) on the
other seeds. The page lists what was tried.

Each contender runs once for every seed, on Fashion-MNIST in virtual time unless it says otherwise;
`bench.papers.rows` makes rows smaller or their labels noisy. What comes out is `docs/results/NAME.json` (every
run's curve), `NAME.md` (docstring, settings, tables with mean and spread over seeds, plot, findings, command) and
`NAME.png`. A run whose settings are in the JSON is not run again, so a page is reworded, redrawn or extended for
little; after a change of the library say `--again TEXT` for the labels that hold TEXT. Labels, panels and pictures
are no settings.
"""
